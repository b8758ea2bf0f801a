// Compares the contracts with those of the latest release, a tag v*: they must not break its clients.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const tags = execFileSync("git", ["tag", "--list", "v*", "--sort=-version:refname"], { encoding: "utf8" }).split("\n");
const latest = tags[0] ?? "";
if (latest === "") {
  process.stdout.write("buf breaking: there is no tag v* yet to compare with\n");
} else {
  const folder = mkdtempSync(join(tmpdir(), "parley-breaking-"));
  try {
    const released = join(folder, "released.binpb");
    writeFileSync(released, execFileSync("git", ["show", `${latest}:gen/descriptors.binpb`], { maxBuffer: 2 ** 28 }));
    execFileSync("buf", ["breaking", "proto", "--against", released, "--exclude-imports"], { stdio: "inherit" });
  } catch {
    process.exitCode = 1; // buf said what breaks
  } finally {
    rmSync(folder, { recursive: true });
  }
}
