import { readdirSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Kysely, sql } from "kysely";
import { DatabaseError } from "pg";
import type { Logger } from "pino";
import { StartError } from "../start-error.ts";
import { type Database, type DatabaseOptions, openDatabase } from "./database.ts";
import { isDatabaseLost, isGivenUp } from "./database-errors.ts";

/** What a file of a service's `migrations/` exports; its name begins with its number, such as `0001_create_products.ts`. */
export interface Migration {
  /** Changes the schema, in a transaction of its own. It never changes once it was released. */
  up(db: Kysely<unknown>): Promise<void>;
  /**
   * The number of the last migration that code must know to run on the schema. Default: none, for
   * older code must run on a newer schema while a rollout is under way or taken back.
   */
  readonly minimumCode?: number;
}

interface NumberedMigration extends Migration {
  readonly number: number;
  readonly name: string;
}

/** The advisory lock that one migration at a time holds; each database has locks of its own. */
const migrationLock = 7_274_836;
/** How long to wait before a database that cannot be reached is tried again. */
const retryMs = 500;

/** Loads a service's migrations in their order. Throws StartError where their numbers are not 1, 2, 3 … */
export async function loadMigrations(folder: URL): Promise<NumberedMigration[]> {
  const files = readdirSync(folder).filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"));
  return Promise.all(
    files.toSorted().map(async (file, index) => {
      const number = Number(file.slice(0, 4));
      if (number !== index + 1)
        throw new StartError(
          `${fileURLToPath(new URL(file, folder))}: its name must begin with the next number, ${String(index + 1).padStart(4, "0")}_`,
        );
      const migration: Migration = await import(new URL(file, folder).href);
      if (typeof migration.up !== "function") throw new StartError(`${fileURLToPath(new URL(file, folder))} exports no function up`);
      return { ...migration, number, name: file.replace(/\.ts$/, "") };
    }),
  );
}

/**
 * Brings a database to the schema of the code, one migration after the other, and waits for a
 * database that cannot be reached, or was not made yet. Of several replicas that start at once, one does each step.
 *
 * Returns the number of the last one that the database has had. One that is ahead of the code is
 * left as it is. Throws StartError where it says that it needs newer code, where it had another
 * migration of the same number, and where one fails.
 */
export async function migrate(options: DatabaseOptions, migrations: readonly NumberedMigration[], log: Logger): Promise<number> {
  const database = openDatabase<unknown>({ ...options, poolSize: 1, statementTimeoutMs: 0 });
  try {
    for (let told: unknown; ; ) {
      try {
        const done = await step(database, migrations, log);
        if (done >= migrations.length) return done;
      } catch (error) {
        const why = error instanceof Error ? error.message : error;
        if (isRefused(error)) throw new StartError(`the database of ${options.name} cannot be used: ${why}`);
        if (!isDatabaseLost(error) && !isMissing(error)) throw error;
        if (why !== told) log.warn(`the database cannot be reached (${why}); trying again`);
        told = why;
        await delay(retryMs);
      }
    }
  } finally {
    await database.close();
  }
}

/**
 * Codes of a role or a database that is not there, or not let in, yet: invalid_password, invalid_authorization_specification,
 * invalid_catalog_name, object_not_in_prerequisite_state (PostgreSQL, appendix A).
 */
const missing: ReadonlySet<string | undefined> = new Set(["28P01", "28000", "3D000", "55000"]);
function isMissing(error: unknown): boolean {
  return error instanceof DatabaseError && missing.has(error.code);
}

/** Whether the server does not let it in, or not write: insufficient_privilege, read_only_sql_transaction; or speaks no TLS. */
function isRefused(error: unknown): boolean {
  if (error instanceof DatabaseError) return error.code === "42501" || error.code === "25006";
  return error instanceof Error && error.message === "The server does not support SSL connections";
}

/** Two branches may have used the same number. */
function assertSame(code: string, database: string | undefined): void {
  if (code === database) return;
  throw new StartError(
    `the database has had the migration ${database}, where the code has ${code}: give the code's another number or, on a laptop, npm run reset`,
  );
}

/** Does the first migration that is missing, if one is; returns the number of the last that is done. */
function step(database: Database<unknown>, migrations: readonly NumberedMigration[], log: Logger): Promise<number> {
  return database.transaction(async (tx) => {
    // Held to the end of the transaction, which a frozen process does not outlive by much.
    await sql`SELECT pg_advisory_xact_lock(${migrationLock})`.execute(tx);
    await sql`CREATE TABLE IF NOT EXISTS migration (
      number int PRIMARY KEY,
      name text NOT NULL,
      minimum_code int NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT now()
    )`.execute(tx);
    const { rows } = await sql<{ name: string; minimum_code: number }>`
      SELECT name, minimum_code FROM migration ORDER BY number`.execute(tx);
    const done = rows.length;
    const minimum = Math.max(0, ...rows.map((row) => row.minimum_code));
    for (const [index, { name }] of migrations.slice(0, done).entries()) assertSame(name, rows[index]?.name);
    if (minimum > migrations.length)
      throw new StartError(`the database needs code that knows migration ${minimum}; this knows ${migrations.length}`);
    if (done > migrations.length) log.info({ database: done, code: migrations.length }, "the database is ahead of the code");
    const next = migrations[done];
    if (next === undefined) return done;
    await next.up(tx).catch((error: unknown) => {
      if (isDatabaseLost(error) || isGivenUp(error)) throw error;
      throw new StartError(
        `the migration ${next.name} failed, and nothing of it was kept: ${error instanceof Error ? error.message : error}`,
      );
    });
    await sql`INSERT INTO migration (number, name, minimum_code) VALUES (${next.number}, ${next.name}, ${next.minimumCode ?? 0})`.execute(
      tx,
    );
    log.info({ migration: next.name }, "migrated");
    return next.number;
  });
}
