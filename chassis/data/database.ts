import { setTimeout as delay } from "node:timers/promises";
import {
  Kysely,
  type PostgresCursor,
  PostgresDialect,
  type PostgresPoolClient,
  type PostgresQueryResult,
  type QueryExecutorProvider,
  type Transaction,
} from "kysely";
import { DatabaseError, Pool, type PoolClient, types } from "pg";
import { type Config, type ConfigShape, count, duration } from "../config.ts";
import { findCurrentCall } from "../rpc/current-call.ts";
import { untilAborted } from "../rpc/until-aborted.ts";

/** How often a transaction is tried that Postgres gave up for another one, and the longest first wait in between. */
const retries = { attempts: 5, firstWaitMs: 10 };
/** serialization_failure and deadlock_detected (PostgreSQL, appendix A). */
const givenUpCodes: ReadonlySet<string | undefined> = new Set(["40001", "40P01"]);
/** Classes of codes that mean the connection, or its server, is gone: connection exception, operator intervention, insufficient resources. */
const lostClasses: ReadonlySet<string | undefined> = new Set(["08", "57", "53"]);
/** idle_in_transaction_session_timeout: it ended the connection of a process that was frozen. */
const idleTooLong = "25P03";
/** query_canceled: by the statement timeout, which says nothing of the connection. */
const queryCanceled = "57014";
/** Codes of the operating system, and of its resolver, where a server does not answer, or its name is not known right now. */
const unreachable = new Set([
  ...["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ENOENT", "EPIPE", "ETIMEDOUT"],
  ...["EAI_AGAIN", "ENOTFOUND"],
]);
/** What a statement's end may be late, in milliseconds. */
const graceMs = 1_000;
/** The type int8, which pg reads as text. */
const int8 = 20;

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
    // The server keeps that one; this is for a server that does not answer at all.
    query_timeout: options.statementTimeoutMs === 0 ? 0 : options.statementTimeoutMs + graceMs,
    keepAlive: true,
    pipeline: true, // a statement may be sent before the one before it is answered
    idle_in_transaction_session_timeout: options.idleInTransactionTimeoutMs,
    types: { getTypeParser: (oid, format) => (oid === int8 ? BigInt : types.getTypeParser(oid, format)) },
  });
  // A connection that is lost while idle, or between two statements, has nobody else to tell; the next statement fails.
  pool.on("error", () => {}).on("connect", (client) => void client.on("error", () => {}));
  const db = new Kysely<Schema>({
    dialect: new PostgresDialect({ pool: { options: {}, connect: async () => lend(await connectInTime(pool)), end: () => pool.end() } }),
  });
  return {
    db,
    url: options.url,
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
      if (!pool.ended) await pool.end(); // Kysely leaves a pool alone that it has never used
    },
  };
}

/** What is to be done when a transaction has committed. */
const callbacks = new WeakMap<object, (() => void)[]>();

/** Calls back when a transaction() has committed; never where it was rolled back, or where that is unknown. The callback does not throw. */
export function onCommit(tx: object, callback: () => void): void {
  callbacks.set(tx, [...(callbacks.get(tx) ?? []), callback]);
}

/** Whether an error means that the database cannot be reached, or that it broke the connection. */
export function isDatabaseLost(error: unknown): boolean {
  if (error instanceof DatabaseError)
    return error.code === idleTooLong || (lostClasses.has(error.code?.slice(0, 2)) && error.code !== queryCanceled);
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? error.code : undefined;
  // pg's own errors have no code.
  return (
    unreachable.has(String(code)) ||
    /^(Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error)/.test(
      error.message,
    )
  );
}

/** Whether an error means that Postgres gave the transaction up for another one. */
export function isGivenUp(error: unknown): boolean {
  return error instanceof DatabaseError && givenUpCodes.has(error.code);
}

/**
 * Begins the text of a statement that returns nothing, and is the last of its transaction: it is sent
 * together with the commit, so that nobody who waits for its locks waits for a round trip too. Its
 * failure is the commit's.
 */
export const withCommit = "/* with commit */";

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

/**
 * Lends a connection to Kysely, so that one that was lost does not go back to the pool: pg learns of
 * that only when the socket closes, which is after the next call got it.
 *
 * What needs no answer of its own does not wait for one: `begin` goes out with the statement that
 * follows, and a statement that begins with `withCommit` with the commit.
 */
function lend(client: PoolClient): PostgresPoolClient {
  let lost = false;
  let begun: Promise<unknown> | undefined;
  /** What was sent and is not answered yet, in a transaction. */
  let unanswered: Promise<unknown> | undefined;
  const noAnswer = { command: "SELECT", rowCount: 0, rows: [] };

  async function send(text: string, parameters: readonly unknown[]): Promise<unknown> {
    const sent = client.query(text, [...parameters]);
    sent.catch(() => {}); // told below, or by what follows
    if (text === "begin") {
      begun = sent;
      unanswered = Promise.resolve();
      return noAnswer;
    }
    const before = unanswered;
    if (before !== undefined && text.startsWith(withCommit)) {
      unanswered = Promise.all([before, sent]);
      unanswered.catch(() => {});
      return noAnswer;
    }
    const isEnd = text === "commit" || text === "rollback";
    if (isEnd) unanswered = undefined;
    try {
      await begun;
    } catch (error) {
      lost = true; // what was sent behind it ran outside of a transaction
      throw error;
    } finally {
      begun = undefined;
    }
    const result = await sent.catch(async (error: unknown) => {
      await before; // its failure is the cause
      throw error;
    });
    if (text === "commit") await before; // a commit of what failed is a rollback, and no error
    return result;
  }
  function query<R>(text: string, parameters: readonly unknown[]): Promise<PostgresQueryResult<R>>;
  function query<R>(cursor: PostgresCursor<R>): PostgresCursor<R>;
  function query(text: unknown, parameters: readonly unknown[] = []): unknown {
    if (typeof text !== "string") throw new Error("cursors are not used");
    return send(text, parameters).catch((error: unknown) => {
      lost ||= isDatabaseLost(error);
      throw error;
    });
  }
  return { query, release: (destroy) => client.release(destroy === true || lost) };
}
