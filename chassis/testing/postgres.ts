import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import type { TestProject } from "vitest/node";
import { startEmbeddedPostgres } from "../data/embedded-postgres.ts";
import { makeDataDir } from "./data-dir.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The URL of the Postgres that all tests of a run share, with the right to make databases. */
    postgresUrl: string;
  }
}

/** Vitest's global set-up: one Postgres for the run, where each test has a database of its own, and a folder for temporary files that is deleted at its end. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const temporary = mkdtempSync(join(tmpdir(), "parley-tests-"));
  chmodSync(temporary, 0o755); // sockets of Postgres, which is another user, are in it
  process.env["TMPDIR"] = temporary;
  const dataDir = makeDataDir();
  const postgres = await startEmbeddedPostgres({ dataDir, maxConnections: 300, log: pino({ level: "silent" }) });
  project.provide("postgresUrl", postgres.superuserUrl);
  return async () => {
    await postgres.stop();
    for (const folder of [dataDir, temporary]) rmSync(folder, { recursive: true, force: true });
  };
}
