import { setTimeout as delay } from "node:timers/promises";
import { SpanKind } from "@opentelemetry/api";
import { type Generated, type QueryExecutorProvider, type RawBuilder, sql } from "kysely";
import type { Logger } from "pino";
import { detach, type Origin, runInBackground } from "../rpc/current-call.ts";
import { durationSince } from "../telemetry/log-fields.ts";
import type { AnyDatabase } from "./database.ts";
import { addOriginColumns, type OriginColumns, type OriginValues, origin, originOf } from "./origin.ts";
import { watchWork } from "./work-metrics.ts";

/** How long a worker holds a row without a sign of life. Default of `leaseMs`. */
const defaultLeaseMs = 5_000;
/** What the transaction that makes a row may take from its first lease. */
const commitMs = 500;
/** How often a worker looks for rows that are due; a row that was just made is started by wake() or run(). */
const pollMs = 1_000;
/** Default of `retryMs`. */
const defaultRetryMs = { first: 500, atMost: 60_000 };

/** A row that this worker holds. */
export interface Lease {
  readonly key: string;
  /** The number of the claim. Every write for the row says `WHERE attempt = ${lease.attempt}`: another worker's claim makes it void. */
  readonly attempt: number;
  /** Fires when the lease is lost or the worker stops. */
  readonly signal: AbortSignal;
}

export interface WorkOptions {
  readonly database: AnyDatabase;
  /** The table, which has the columns of addWorkColumns(). */
  readonly table: string;
  /** Its primary key, one column of type text or uuid. */
  readonly key: string;
  /** The keys of the rows that are claimed. Default: all. */
  readonly only?: readonly string[];
  /** Rows that are claimed and worked on at once, beside those of run(). Default: 4. */
  readonly concurrency?: number;
  readonly leaseMs?: number;
  /** How long a row waits after its first failure; twice as long after each further one in a row, by chance between half of it and all. */
  readonly retryMs?: { readonly first: number; readonly atMost: number };
  /** Whether the work on a row ends only with its lease: it is then in no trace. Default: false. */
  readonly isEndless?: boolean;
  readonly log: Logger;
  /**
   * Does the work. It ends the row's work by setting `due_at` to NULL, or moves it, in the
   * transaction of its last effect and `WHERE attempt = lease.attempt`, and may resolve to `done`
   * where it has: then no lease is given back. Where it throws, the row is tried again later.
   */
  readonly handle: (lease: Lease) => Promise<unknown>;
}

/** The claim of a row, by which writes for it are fenced. */
export type Claim = Pick<Lease, "key" | "attempt">;

/** The columns of work, as a part of a table's type. */
export interface WorkColumns extends OriginColumns {
  due_at: Date | null;
  attempt: Generated<number>;
  failures: Generated<number>;
  leased_until: Generated<Date | null>;
}

/** The columns of a row whose first lease is its maker's. */
export interface FirstLease extends OriginValues {
  readonly attempt: number;
  readonly due_at: RawBuilder<Date>;
  readonly leased_until: RawBuilder<Date>;
}

/** Works through the rows of a table until it is stopped. */
export interface Worker {
  /** The columns of a row with which the transaction that makes it takes its first lease, for run(). */
  firstLease(): FirstLease;
  /** Works on such a row at once, however many others are worked on. */
  run(key: string): void;
  /** Looks for rows that are due, at once. */
  wake(): void;
  /** Takes no more rows, fires the signals of those in progress, and gives their leases back when they have ended. */
  stop(): Promise<void>;
}

/** The columns of a row that is to be worked on at once, by whoever claims it first. */
export const dueNow = { due_at: sql<Date>`now()`, leased_until: null, failures: 0 };

/** The columns of a row on which nothing is left to be done. */
export const done = { due_at: null, leased_until: null, failures: 0 };

/** Adds the columns of work to a table, in a migration: a row is due at `due_at`, and done where that is NULL. */
export async function addWorkColumns(db: QueryExecutorProvider, table: string): Promise<void> {
  await sql`ALTER TABLE ${sql.table(table)}
    ADD COLUMN due_at timestamptz,
    ADD COLUMN attempt int NOT NULL DEFAULT 0,
    ADD COLUMN failures int NOT NULL DEFAULT 0,
    ADD COLUMN leased_until timestamptz`.execute(db);
  await addOriginColumns(db, table);
  await sql`CREATE INDEX ${sql.raw(`${table}_due`)} ON ${sql.table(table)} (due_at) WHERE due_at IS NOT NULL`.execute(db);
}

/**
 * Starts to claim rows that are due, renews their leases while they are worked on, and tries those
 * that failed again, later each time. A row whose worker died is claimed by another when its lease
 * has run out. All times are the database's.
 */
export function startWork(options: WorkOptions): Worker {
  const { table, key, only, concurrency = 4, leaseMs = defaultLeaseMs, retryMs = defaultRetryMs, isEndless = false, log, handle } = options;
  const { db, telemetry } = options.database;
  const [tableRef, keyRef] = [sql.table(table), sql.ref(key)];
  const isOurs = only === undefined ? sql`true` : sql`${keyRef} = ANY(${only})`;
  const leaseEnd = sql<Date>`now() + ${intervalOf(leaseMs)}`;
  const running = new Set<Promise<void>>();
  let claimedNow = 0;
  const stopped = new AbortController();
  let woken = Promise.withResolvers<void>();
  const wake = (): void => woken.resolve();

  async function claim(limit: number): Promise<Held[]> {
    const claimedMs = performance.now();
    const { rows } = await sql<{ key: string; attempt: number; failures: number } & OriginValues>`
      WITH due AS MATERIALIZED (
        SELECT ${keyRef} AS key FROM ${tableRef}
        WHERE due_at <= now() AND (leased_until IS NULL OR leased_until < now()) AND ${isOurs}
        ORDER BY due_at LIMIT ${limit} FOR UPDATE SKIP LOCKED)
      UPDATE ${tableRef} SET attempt = attempt + 1, leased_until = ${leaseEnd}
      FROM due WHERE ${keyRef} = due.key RETURNING due.key, attempt, failures, origin_request_id, origin_traceparent`.execute(db);
    return rows.map(({ key: rowKey, attempt, failures, ...row }) => ({ key: rowKey, attempt, failures, claimedMs, origin: originOf(row) }));
  }

  /** Changes what is still ours; returns whether it is. What is done is nobody's, and needs no further commit. */
  async function update({ key: rowKey, attempt }: Held, change: RawBuilder<unknown>): Promise<boolean> {
    const result = await sql`UPDATE ${tableRef} SET ${change}
      WHERE ${keyRef} = ${rowKey} AND attempt = ${attempt} AND due_at IS NOT NULL`.execute(db);
    return result.numAffectedRows === 1n;
  }

  async function work(held: Held): Promise<void> {
    const startedMs = performance.now();
    const ended = new AbortController();
    const lost = new AbortController();
    void renew(held, lost, ended.signal);
    const signal = AbortSignal.any([lost.signal, stopped.signal]);
    let change = sql`leased_until = NULL, failures = 0`;
    let isDone = false;
    try {
      isDone = (await handle({ key: held.key, attempt: held.attempt, signal })) === "done";
      if (!isEndless) log.info({ table, attempt: held.attempt, duration_ms: durationSince(startedMs) }, "work");
    } catch (error) {
      change = sql`leased_until = NULL`;
      if (!signal.aborted) {
        const waitMs = Math.min(retryMs.first * 2 ** Math.min(held.failures, 30), retryMs.atMost) * (0.5 + Math.random() / 2);
        log.warn({ err: error, table, key: held.key, attempt: held.attempt, retry_ms: Math.round(waitMs) }, "work failed; trying again");
        change = sql`leased_until = NULL, failures = failures + 1, due_at = now() + ${intervalOf(waitMs)}`;
      }
    }
    ended.abort();
    if (!isDone) await giveBack(held, change);
  }

  /** Where it fails, the lease runs out. */
  async function giveBack(held: Held, change = sql`leased_until = NULL`): Promise<void> {
    await update(held, change).catch((error: unknown) => log.warn({ err: error, table, key: held.key }, "a lease was not given back"));
  }

  async function renew(held: Held, lost: AbortController, ended: AbortSignal): Promise<void> {
    const lose = (): void => lost.abort();
    // By a timer of its own: a database that does not answer renews no lease.
    let timer = setTimeout(lose, held.claimedMs + leaseMs - performance.now());
    ended.addEventListener("abort", () => clearTimeout(timer));
    while (!ended.aborted && !lost.signal.aborted) {
      await delay(leaseMs / 3, undefined, { signal: ended }).catch(() => {});
      if (ended.aborted) return;
      const startedMs = performance.now();
      try {
        const isOurs = await update(held, sql`leased_until = ${leaseEnd}`);
        clearTimeout(timer);
        if (!isOurs) lose();
        else if (!ended.aborted) timer = setTimeout(lose, startedMs + leaseMs - performance.now());
      } catch (error) {
        log.warn({ err: error, table, key: held.key }, "a lease was not renewed");
      }
    }
  }

  function start(held: Held, onEnd: () => void): void {
    const done = detach(() => (isEndless ? work(held) : traced(held))).finally(() => {
      running.delete(done);
      onEnd();
    });
    running.add(done);
  }

  async function traced(held: Held): Promise<void> {
    const attributes = { "parley.work.table": table, "parley.work.attempt": held.attempt };
    const about = new Map([[key, held.key]]);
    const name = `work ${table}`;
    const { origin: from } = held;
    await runInBackground({ name, kind: SpanKind.CONSUMER, origin: from, tracer: telemetry?.tracer, about, attributes }, () => work(held));
  }

  function startClaimed(held: Held): void {
    claimedNow++;
    start(held, () => {
      claimedNow--;
      wake();
    });
  }

  async function loop(): Promise<void> {
    while (!stopped.signal.aborted) {
      woken = Promise.withResolvers();
      const free = concurrency - claimedNow;
      const claimed = free <= 0 ? [] : await claim(free).catch(logged);
      if (stopped.signal.aborted) await Promise.all(claimed.map((held) => giveBack(held)));
      else for (const held of claimed) startClaimed(held);
      await woken.promise;
    }
  }

  function logged(error: unknown): [] {
    log.warn({ err: error, table }, "work cannot be claimed; trying again");
    return [];
  }

  if (telemetry !== undefined) watchWork(options.database, telemetry, { table, isOurs });
  const polling = setInterval(wake, pollMs);
  const looping = loop();
  return {
    firstLease: () => ({ attempt: 1, due_at: sql<Date>`now()`, leased_until: leaseEnd, ...origin() }),
    run(rowKey) {
      // Its lease began before its commit, which was a moment ago: what is left of it is a little less.
      if (!stopped.signal.aborted)
        start({ key: rowKey, attempt: 1, failures: 0, claimedMs: performance.now() - commitMs, origin: originOf(origin()) }, () => {});
    },
    wake,
    async stop() {
      stopped.abort();
      clearInterval(polling);
      wake();
      await looping;
      await Promise.all(running);
    },
  };
}

/** A row that this worker has claimed, and when it asked for it. */
interface Held {
  readonly key: string;
  readonly attempt: number;
  readonly failures: number;
  readonly claimedMs: number;
  readonly origin: Origin;
}

/** Returns an interval of so many milliseconds, for SQL. */
export function intervalOf(ms: number): RawBuilder<unknown> {
  return sql`${ms} * interval '1 millisecond'`;
}
