// Deletes all data of the embedded Postgres, not the keys, after asking; with --yes without.
import { once } from "node:events";
import { createInterface } from "node:readline/promises";
import { commonConfig, readConfig } from "@parley/chassis/config.ts";
import { deleteEmbeddedPostgres } from "@parley/chassis/data/embedded-postgres.ts";
import { exitOnStartError } from "@parley/chassis/start-error.ts";

try {
  const { PARLEY_DATA_DIR: dataDir } = readConfig(commonConfig, process.env);
  if (process.argv.includes("--yes") || (await isConfirmed(`Delete all databases in ${dataDir}? Type yes: `))) {
    await deleteEmbeddedPostgres(dataDir);
    process.stdout.write(`all data of the databases in ${dataDir} is deleted; the keys stay\n`);
  } else process.stdout.write("nothing is deleted\n");
} catch (error) {
  exitOnStartError(error);
}

async function isConfirmed(question: string): Promise<boolean> {
  const prompt = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const ended = once(prompt, "close").then(() => "no");
    return (await Promise.race([prompt.question(question), ended])).trim() === "yes";
  } finally {
    prompt.close();
  }
}
