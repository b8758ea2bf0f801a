import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { makeDataDir } from "@parley/chassis/testing/data-dir.ts";
import { onTestFinished } from "vitest";

/** Runs a script of the suite to its end, with a data folder of its own. */
export async function runScript(
  script: string,
  env: NodeJS.ProcessEnv,
  ...args: string[]
): Promise<{ code: number | null; errors: string }> {
  const dataDir = makeDataDir();
  onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }));
  const child = spawn(process.execPath, [join(import.meta.dirname, "..", script), ...args], {
    env: { ...process.env, PARLEY_DATA_DIR: dataDir, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let errors = "";
  child.stderr.on("data", (chunk) => (errors += chunk));
  const [code] = await once(child, "close");
  return { code, errors };
}
