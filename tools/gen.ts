// Generates gen/ from proto/: the stubs in gen/src, and gen/descriptors.binpb, a descriptor set
// with comments, from which the gateway works. With --check it writes nothing and fails where
// gen/ is not what it would write.
import { spawnSync } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import "./third-party.ts";

const root = join(import.meta.dirname, "..");
const check = process.argv.includes("--check");
const out = check ? mkdtempSync(join(tmpdir(), "parley-gen-")) : root;

const buf = (...args: string[]): void => {
  const { status, error } = spawnSync("buf", args, { cwd: root, stdio: "inherit" });
  if (error !== undefined) throw error;
  if (status !== 0) process.exit(status ?? 1); // it said why
};
if (!check) rmSync(join(root, "gen/src"), { recursive: true, force: true });
buf("generate", "--output", out);
buf("build", "proto", "--output", join(out, "gen/descriptors.binpb"));

if (check) {
  const made = filesOf(out);
  const kept = filesOf(root);
  const stale = [...new Set([...made.keys(), ...kept.keys()])].filter((file) => !made.get(file)?.equals(kept.get(file) ?? Buffer.of()));
  rmSync(out, { recursive: true });
  for (const file of stale) process.stderr.write(`${file} is not what proto/ generates: run npm run gen\n`);
  if (stale.length > 0) process.exit(1);
}

function filesOf(folder: string): Map<string, Buffer> {
  const files = globSync(["gen/src/**/*.{js,ts}", "gen/descriptors.binpb"], { cwd: folder });
  return new Map(files.map((file) => [file, readFileSync(join(folder, file))]));
}
