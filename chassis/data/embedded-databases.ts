import type { Logger } from "pino";
import { startEmbeddedPostgres } from "./embedded-postgres.ts";

/** The embedded Postgres of a process, if one was needed. */
export interface EmbeddedDatabases {
  /** Where the databases are, as the variables that say so. */
  readonly env: NodeJS.ProcessEnv;
  stop(): Promise<void>;
}

/**
 * Starts an embedded Postgres for the services whose database has no URL in the environment, and
 * makes a database for each; it starts nothing where there is none such.
 */
export async function startEmbeddedDatabases(
  services: readonly { readonly name: string; readonly databaseVariable?: string | undefined }[],
  { env, dataDir, log }: { env: NodeJS.ProcessEnv; dataDir: string; log: Logger },
): Promise<EmbeddedDatabases> {
  const missing = services.flatMap(({ name, databaseVariable }) =>
    databaseVariable === undefined || env[databaseVariable] ? [] : [{ name, databaseVariable }],
  );
  if (missing.length === 0) return { env: {}, stop: async () => {} };
  const postgres = await startEmbeddedPostgres({ dataDir, log });
  log.info({ directory: postgres.directory }, "an embedded Postgres serves the databases");
  const urls: NodeJS.ProcessEnv = {};
  for (const { name, databaseVariable } of missing) urls[databaseVariable] = await postgres.ensureDatabase(name);
  return { env: urls, stop: postgres.stop };
}
