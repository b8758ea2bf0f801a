import { setTimeout as delay } from "node:timers/promises";
import { Kysely, PostgresDialect, type Transaction } from "kysely";
import { DatabaseError, Pool, type PoolClient, types } from "pg";
import { findCurrentCall } from "../rpc/current-call.ts";
import { untilAborted } from "../rpc/until-aborted.ts";

/** How often a transaction is tried that Postgres gave up for another one, and the longest first wait in between. */
const retries = { attempts: 5, firstWaitMs: 10 };
/** serialization_failure and deadlock_detected (PostgreSQL, appendix A). */
const givenUpCodes: ReadonlySet<string | undefined> = new Set(["40001", "40P01"]);
/** Classes of codes that mean the connection, or its server, is gone: connection exception, operator intervention, insufficient resources. */
const lostClasses: ReadonlySet<string | undefined> = new Set(["08", "57", "53"]);
/** query_canceled: by the statement timeout, which says nothing of the connection. */
const queryCanceled = "57014";
/** The type int8, which pg reads as text. */
const int8 = 20;

export interface DatabaseOptions {
  readonly url: string;
  /** By which the server's views tell the connections: the service's name. */
  readonly name: string;
  readonly poolSize: number;
  readonly connectTimeoutMs: number;
  readonly statementTimeoutMs: number;
  /** How long a transaction may do nothing: a frozen one stops all who wait for its locks. */
  readonly idleInTransactionTimeoutMs: number;
}

/** A service's own database. */
export interface Database<Schema> {
  /** For statements that stand alone. `int8` is read as bigint. */
  readonly db: Kysely<Schema>;
  /**
   * Runs `work` in a transaction, READ COMMITTED, and again where Postgres gave it up for another
   * one. So `work` consists of statements alone: a remote call would be made twice.
   */
  transaction<T>(work: (tx: Transaction<Schema>) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/**
 * Opens a pool of connections; it connects as it is used. Waiting for a connection ends with the
 * current call. What fails because the database is not there is for isDatabaseLost() to tell.
 */
export function openDatabase<Schema>(options: DatabaseOptions): Database<Schema> {
  const pool = new Pool({
    connectionString: options.url,
    application_name: options.name,
    max: options.poolSize,
    connectionTimeoutMillis: options.connectTimeoutMs,
    statement_timeout: options.statementTimeoutMs,
    idle_in_transaction_session_timeout: options.idleInTransactionTimeoutMs,
    types: { getTypeParser: (oid, format) => (oid === int8 ? BigInt : types.getTypeParser(oid, format)) },
  });
  pool.on("error", () => {}); // an idle connection was lost: the pool makes another when it is needed
  const db = new Kysely<Schema>({
    dialect: new PostgresDialect({ pool: { options: {}, connect: () => connectInTime(pool), end: () => pool.end() } }),
  });
  return {
    db,
    async transaction(work) {
      for (let attempt = 1; ; attempt++) {
        try {
          return await db.transaction().execute(work);
        } catch (error) {
          const givenUp = error instanceof DatabaseError && givenUpCodes.has(error.code);
          if (!givenUp || attempt === retries.attempts) throw error;
        }
        await delay(Math.random() * retries.firstWaitMs * 2 ** attempt, undefined, { signal: findCurrentCall()?.signal });
      }
    },
    async close() {
      await db.destroy();
      if (!pool.ended) await pool.end(); // Kysely leaves a pool alone that it has never used
    },
  };
}

/** Whether an error means that the database cannot be reached, or that it broke the connection. */
export function isDatabaseLost(error: unknown): boolean {
  if (error instanceof DatabaseError) return lostClasses.has(error.code?.slice(0, 2)) && error.code !== queryCanceled;
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? error.code : undefined;
  // pg's own errors have no code.
  return (
    ["ECONNREFUSED", "ECONNRESET", "ENOENT", "ENOTFOUND", "EPIPE", "ETIMEDOUT"].includes(String(code)) ||
    /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error)/.test(error.message)
  );
}

/** A connection that comes too late for its call goes back at once. */
async function connectInTime(pool: Pool): Promise<PoolClient> {
  const connecting = pool.connect();
  const signal = findCurrentCall()?.signal;
  if (signal === undefined) return connecting;
  try {
    return await untilAborted(connecting, signal);
  } catch (error) {
    connecting.then(
      (client) => client.release(),
      () => {},
    );
    throw error;
  }
}
