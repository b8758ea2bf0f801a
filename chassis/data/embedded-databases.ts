import type { Logger } from "pino";
import { readConfig } from "../config.ts";
import type { Component } from "../service.ts";
import { databaseConfig } from "./database.ts";
import { startEmbeddedPostgres } from "./embedded-postgres.ts";

/** For prompts and other tools, for the old ones of a service that starts again, and for those that Postgres keeps for superusers. */
const spareConnections = 20;

/** The embedded Postgres of a process, if one was needed. */
export interface EmbeddedDatabases {
  /** Where the databases are, as the variables that say so. */
  readonly env: NodeJS.ProcessEnv;
  stop(): Promise<void>;
}

export interface EmbeddedDatabasesOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly dataDir: string;
  readonly log: Logger;
  /** How many processes use the database of a component, by its name. Default: one. */
  readonly replicas?: ReadonlyMap<string, number>;
}

/**
 * Starts an embedded Postgres for the components whose database has no URL in the environment, and
 * makes a database for each; it starts nothing where there is none such.
 */
export async function startEmbeddedDatabases(
  components: readonly Pick<Component, "name" | "database">[],
  { env, dataDir, log, replicas = new Map() }: EmbeddedDatabasesOptions,
): Promise<EmbeddedDatabases> {
  const missing = components.flatMap(({ name, database }) =>
    database === undefined || env[database.variable] ? [] : [{ name, ...database }],
  );
  if (missing.length === 0) return { env: {}, stop: async () => {} };
  const { PARLEY_DB_POOL: poolSize } = readConfig(databaseConfig, env);
  const connections = missing.map(({ name, otherConnections }) => (replicas.get(name) ?? 1) * (poolSize + otherConnections));
  const maxConnections = connections.reduce((sum, count) => sum + count, spareConnections);
  const postgres = await startEmbeddedPostgres({ dataDir, maxConnections, log });
  log.info({ directory: postgres.directory }, "an embedded Postgres serves the databases");
  const urls: NodeJS.ProcessEnv = {};
  for (const { name, variable } of missing) urls[variable] = await postgres.ensureDatabase(name);
  return { env: urls, stop: postgres.stop };
}
