import type { Logger } from "pino";
import { readConfig } from "../config.ts";
import type { Component } from "../service.ts";
import { databaseConfig } from "./database.ts";
import { startEmbeddedPostgres } from "./embedded-postgres.ts";

/** Connections of a service beside its pool: the one that listens. */
const listeners = 1;
/** For prompts and other tools, for the old ones of a service that starts again, and for those that Postgres keeps for superusers. */
const spareConnections = 20;

/** The embedded Postgres of a process, if one was needed. */
export interface EmbeddedDatabases {
  /** Where the databases are, as the variables that say so. */
  readonly env: NodeJS.ProcessEnv;
  stop(): Promise<void>;
}

/**
 * Starts an embedded Postgres for the components whose database has no URL in the environment, and
 * makes a database for each; it starts nothing where there is none such.
 */
export async function startEmbeddedDatabases(
  components: readonly Pick<Component, "name" | "database">[],
  { env, dataDir, log }: { env: NodeJS.ProcessEnv; dataDir: string; log: Logger },
): Promise<EmbeddedDatabases> {
  const missing = components.flatMap(({ name, database }) =>
    database === undefined || env[database.variable] ? [] : [{ name, variable: database.variable }],
  );
  if (missing.length === 0) return { env: {}, stop: async () => {} };
  const { PARLEY_DB_POOL: poolSize } = readConfig(databaseConfig, env);
  const maxConnections = missing.length * (poolSize + listeners) + spareConnections;
  const postgres = await startEmbeddedPostgres({ dataDir, maxConnections, log });
  log.info({ directory: postgres.directory }, "an embedded Postgres serves the databases");
  const urls: NodeJS.ProcessEnv = {};
  for (const { name, variable } of missing) urls[variable] = await postgres.ensureDatabase(name);
  return { env: urls, stop: postgres.stop };
}
