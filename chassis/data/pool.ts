import type { PostgresCursor, PostgresPool, PostgresPoolClient, PostgresQueryResult } from "kysely";
import { Pool, type PoolClient, types } from "pg";
import { Gauge } from "prom-client";
import { findCurrentCall } from "../rpc/current-call.ts";
import { untilAborted } from "../rpc/until-aborted.ts";
import { onScrape, perRegistry, type Telemetry } from "../telemetry/telemetry.ts";
import { type Bulkhead, createBulkhead } from "./bulkhead.ts";
import type { DatabaseOptions } from "./database.ts";
import { isDatabaseLost } from "./database-errors.ts";
import { endStatementSpan, startStatementSpan } from "./statement-span.ts";

/** What a statement's end may be late, in milliseconds. */
const graceMs = 1_000;
/** The type int8, which pg reads as text. */
const int8 = 20;

/**
 * Begins the text of a statement that returns nothing, and is the last of its transaction: it is sent
 * together with the commit, so that nobody who waits for its locks waits for a round trip too. Its
 * failure is the commit's.
 */
export const withCommit = "/* with commit */";

/**
 * Opens a pool of connections for Kysely; it connects as it is used. Waiting for a connection ends with the current call,
 * outside of one after `connectTimeoutMs`; and no method has them all: one whose statements are slow, for a lock perhaps, holds up no other.
 */
export function openPool(options: DatabaseOptions): PostgresPool {
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
  const bulkhead = createBulkhead(Math.max(options.poolSize - 1, 1));
  if (options.telemetry !== undefined) watchPool(pool, bulkhead, options.telemetry, options.poolSize);
  return {
    options: {},
    async connect() {
      const call = findCurrentCall();
      const leave = await bulkhead.enter(call?.method ?? "background", () => call?.signal ?? AbortSignal.timeout(options.connectTimeoutMs));
      try {
        return lend(await connectInTime(pool, call?.signal), leave);
      } catch (error) {
        leave();
        throw error;
      }
    },
    async end() {
      if (!pool.ended) await pool.end();
    },
  };
}

/** A connection that comes too late for its call goes back at once. */
async function connectInTime(pool: Pool, signal: AbortSignal | undefined): Promise<PoolClient> {
  const connecting = pool.connect();
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
function lend(client: PoolClient, onRelease: () => void): PostgresPoolClient {
  let lost = false;
  let begun: Promise<unknown> | undefined;
  /** What was sent and is not answered yet, in a transaction. */
  let unanswered: Promise<unknown> | undefined;
  const noAnswer = { command: "SELECT", rowCount: 0, rows: [] };

  async function send(text: string, parameters: readonly unknown[]): Promise<unknown> {
    const span = text === "begin" ? undefined : startStatementSpan(text);
    const sent = client.query(text, [...parameters]);
    sent.then(
      () => span && endStatementSpan(span),
      (error: unknown) => span && endStatementSpan(span, error), // told below, or by what follows
    );
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
  return {
    query,
    release(destroy) {
      client.release(destroy === true || lost);
      onRelease();
    },
  };
}

/** Shows how many connections are in use, and how many calls wait for one (OpenTelemetry's semantic conventions for database pools). */
function watchPool(pool: Pool, bulkhead: Bulkhead, { serviceName, registry }: Telemetry, most: number): void {
  const { connections, waiting, max } = poolMetrics(registry);
  const labels = { service_name: serviceName };
  max.set(labels, most);
  onScrape(registry, () => {
    connections.set({ ...labels, db_client_connection_state: "idle" }, pool.idleCount);
    connections.set({ ...labels, db_client_connection_state: "used" }, pool.totalCount - pool.idleCount);
    waiting.set(labels, pool.waitingCount + bulkhead.waiting);
  });
}

const poolMetrics = perRegistry((registers) => ({
  connections: new Gauge({
    name: "db_client_connection_count",
    help: "Connections to databases, by what they do.",
    labelNames: ["service_name", "db_client_connection_state"],
    registers,
  }),
  waiting: new Gauge({
    name: "db_client_connection_pending_requests",
    help: "Statements and transactions that wait for a connection.",
    labelNames: ["service_name"],
    registers,
  }),
  max: new Gauge({
    name: "db_client_connection_max",
    help: "Connections that a pool has at most.",
    labelNames: ["service_name"],
    registers,
  }),
}));
