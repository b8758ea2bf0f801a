import { setTimeout as delay } from "node:timers/promises";
import { Kysely, PostgresDialect, type QueryExecutorProvider, type Transaction } from "kysely";
import { type Config, type ConfigShape, count, duration } from "../config.ts";
import { findCurrentCall } from "../rpc/current-call.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { isGivenUp } from "./database-errors.ts";
import { openPool } from "./pool.ts";

/** How often a transaction is tried that Postgres gave up for another one, and the longest first wait in between. */
const retries = { attempts: 5, firstWaitMs: 10 };

export interface DatabaseOptions {
  readonly url: string;
  /** By which the server's views tell the connections: the service's name. */
  readonly name: string;
  readonly poolSize: number;
  readonly connectTimeoutMs: number;
  /** 0: as long as it takes. */
  readonly statementTimeoutMs: number;
  /** How long a transaction may do nothing: a frozen one stops all who wait for its locks. */
  readonly idleInTransactionTimeoutMs: number;
  /** Where the pool's metrics go. Undefined: nowhere. */
  readonly telemetry?: Telemetry;
}

/** The variables of every service with a database. */
export const databaseConfig = {
  PARLEY_DB_POOL: count(5, "Connections to its database that each service has at most"),
  PARLEY_DB_CONNECT_TIMEOUT: duration("5s", "Time to connect to a database, or to wait for a free connection outside of a call"),
  PARLEY_DB_STATEMENT_TIMEOUT: duration("5s", "Time that one statement may take"),
  PARLEY_DB_IDLE_IN_TRANSACTION_TIMEOUT: duration("5s", "Time that a transaction may do nothing, holding its locks"),
} satisfies ConfigShape;

/** Returns the options of a database from the variables of databaseConfig. */
export function databaseOptions(name: string, url: string, config: Config<typeof databaseConfig>): DatabaseOptions {
  return {
    url,
    name,
    poolSize: config.PARLEY_DB_POOL,
    connectTimeoutMs: config.PARLEY_DB_CONNECT_TIMEOUT,
    statementTimeoutMs: config.PARLEY_DB_STATEMENT_TIMEOUT,
    idleInTransactionTimeoutMs: config.PARLEY_DB_IDLE_IN_TRANSACTION_TIMEOUT,
  };
}

/** What a service says of its database: the shape of its tables, and the folder of its migrations. */
export interface DatabaseDefinition<Schema> {
  readonly migrations: URL;
  /** Connections that the service opens beside its pool: one that listens for events, and what it says. */
  readonly otherConnections: number;
  open(options: DatabaseOptions): Database<Schema>;
}

/** Defines a service's database. */
export function defineDatabase<Schema>({
  migrations,
  extraConnections = 0,
}: {
  readonly migrations: URL;
  /** Connections that the service opens beside its pool and the one that listens for events. */
  readonly extraConnections?: number;
}): DatabaseDefinition<Schema> {
  return { migrations, otherConnections: extraConnections + 1, open: openDatabase<Schema> };
}

/** A database whatever its tables, for SQL that is written out. */
export interface AnyDatabase {
  readonly db: QueryExecutorProvider;
  /** Where it is, for a connection that is not of the pool, such as one that listens. */
  readonly url: string;
  /** Of the component whose database it is. */
  readonly telemetry: Telemetry | undefined;
  transaction<T>(work: (tx: QueryExecutorProvider) => Promise<T>): Promise<T>;
}

/** A service's own database. */
export interface Database<Schema> extends AnyDatabase {
  /** For statements that stand alone. `int8` is read as bigint. */
  readonly db: Kysely<Schema>;
  /**
   * Runs `work` in a transaction, READ COMMITTED, and again where Postgres gave it up for another
   * one. So `work` consists of statements alone: a remote call would be made twice.
   */
  transaction<T>(work: (tx: Transaction<Schema>) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** Opens a database. What fails because it is not there is for isDatabaseLost() to tell. */
export function openDatabase<Schema>(options: DatabaseOptions): Database<Schema> {
  const pool = openPool(options);
  const db = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
  return {
    db,
    url: options.url,
    telemetry: options.telemetry,
    async transaction(work) {
      for (let attempt = 1; ; attempt++) {
        let committed: readonly (() => void)[] = [];
        try {
          const result = await db.transaction().execute(async (tx) => {
            const answer = await work(tx);
            committed = callbacks.get(tx) ?? [];
            return answer;
          });
          for (const callback of committed) callback();
          return result;
        } catch (error) {
          if (!isGivenUp(error) || attempt === retries.attempts) throw error;
        }
        await delay(Math.random() * retries.firstWaitMs * 2 ** (attempt - 1), undefined, { signal: findCurrentCall()?.signal });
      }
    },
    async close() {
      await db.destroy();
      await pool.end(); // Kysely leaves a pool alone that it has never used
    },
  };
}

/** What is to be done when a transaction has committed. */
const callbacks = new WeakMap<object, (() => void)[]>();

/** Calls back when a transaction() has committed; never where it was rolled back, or where that is unknown. The callback does not throw. */
export function onCommit(tx: object, callback: () => void): void {
  callbacks.set(tx, [...(callbacks.get(tx) ?? []), callback]);
}
