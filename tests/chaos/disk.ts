import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Enough for a Postgres with six databases, and not much more. */
const size = "400m";

/** Mounts a small disk in memory, as root on Linux; returns where it is, or undefined where that cannot be done. */
export function mountDisk(): { readonly path: string; unmount(): void } | undefined {
  const path = mkdtempSync(join(tmpdir(), "parley-disk-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size},mode=755`, "tmpfs", path], { stdio: "ignore" });
  } catch {
    rmSync(path, { recursive: true });
    return undefined;
  }
  chmodSync(path, 0o755);
  return {
    path,
    unmount() {
      if (!existsSync(path)) return;
      execFileSync("umount", ["--lazy", path]); // its Postgres may still be ending
      rmSync(path, { recursive: true });
    },
  };
}
