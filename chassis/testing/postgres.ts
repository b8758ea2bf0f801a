import { rmSync } from "node:fs";
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

/** Vitest's global set-up: one Postgres for the run, where each test has a database of its own. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = makeDataDir();
  const postgres = await startEmbeddedPostgres({ dataDir, maxConnections: 300, log: pino({ level: "silent" }) });
  project.provide("postgresUrl", postgres.superuserUrl);
  return async () => {
    await postgres.stop();
    rmSync(dataDir, { recursive: true, force: true });
  };
}
