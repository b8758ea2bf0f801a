import { setTimeout as delay } from "node:timers/promises";
import { type QueryExecutorProvider, sql } from "kysely";
import type { Logger } from "pino";
import { detach } from "../rpc/current-call.ts";
import type { AnyDatabase } from "./database.ts";

/** How long a worker holds a row without a sign of life. Default of `leaseMs`. */
const defaultLeaseMs = 5_000;
/** How often a worker looks for rows that are due; a row that was just made is started by wake() or run(). */
const pollMs = 1_000;
/** How long a row waits after its first failure; twice as long after each further one, by chance between half of it and all. */
const retryMs = { first: 500, atMost: 60_000 };

/** A row that this worker holds. */
export interface Lease {
  readonly key: string;
  /** The number of the claim. Every write for the row says `WHERE attempt = attempt`: another worker's claim makes it void. */
  readonly attempt: number;
  /** Fires when the lease is lost or the worker stops. */
  readonly signal: AbortSignal;
}

export interface WorkOptions {
  readonly database: AnyDatabase;
  /** The table, which has the columns of addWorkColumns(). */
  readonly table: string;
  /** Its primary key, of type text. */
  readonly key: string;
  /** Rows that are worked on at once. Default: 4. */
  readonly concurrency?: number;
  readonly leaseMs?: number;
  readonly log: Logger;
  /**
   * Does the work. It ends the row's work by setting `due_at` to NULL, or moves it, in the
   * transaction of its last effect and `WHERE attempt = lease.attempt`. Where it throws, the row
   * is tried again later.
   */
  readonly handle: (lease: Lease) => Promise<void>;
}

/** Works through the rows of a table until it is stopped. */
export interface Worker {
  /** Works on a row whose first lease the transaction that made it took (`firstLease`), at once. */
  run(key: string): void;
  /** Looks for rows that are due, at once. */
  wake(): void;
  /** Takes no more rows, fires the signals of those in progress, and gives their leases back when they have ended. */
  stop(): Promise<void>;
}

/** Adds the columns of work to a table, in a migration: a row is due at `due_at`, and done where that is NULL. */
export async function addWorkColumns(db: QueryExecutorProvider, table: string): Promise<void> {
  await sql`ALTER TABLE ${sql.table(table)}
    ADD COLUMN due_at timestamptz,
    ADD COLUMN attempt int NOT NULL DEFAULT 0,
    ADD COLUMN leased_until timestamptz`.execute(db);
  await sql`CREATE INDEX ${sql.raw(`${table}_due`)} ON ${sql.table(table)} (due_at) WHERE due_at IS NOT NULL`.execute(db);
}

/** The columns of a row that is made and, by the same process, run() at once. */
export function firstLease(leaseMs = defaultLeaseMs) {
  return { attempt: 1, due_at: sql<Date>`now()`, leased_until: sql<Date>`now() + ${intervalOf(leaseMs)}` };
}

/**
 * Starts to claim rows that are due, renews their leases while they are worked on, and tries those
 * that failed again, later each time. A row whose worker died is claimed by another when its lease
 * has run out. All times are the database's.
 */
export function startWork(options: WorkOptions): Worker {
  const { table, key, concurrency = 4, leaseMs = defaultLeaseMs, log, handle } = options;
  const { db } = options.database;
  const [tableRef, keyRef] = [sql.table(table), sql.ref(key)];
  const running = new Set<Promise<void>>();
  const stopped = new AbortController();
  let woken = Promise.withResolvers<void>();
  const wake = (): void => woken.resolve();

  async function claim(limit: number): Promise<{ key: string; attempt: number }[]> {
    const { rows } = await sql<{ key: string; attempt: number }>`
      UPDATE ${tableRef} SET attempt = attempt + 1, leased_until = now() + ${intervalOf(leaseMs)}
      WHERE ${keyRef} IN (
        SELECT ${keyRef} FROM ${tableRef} WHERE due_at <= now() AND (leased_until IS NULL OR leased_until < now())
        ORDER BY due_at LIMIT ${limit} FOR UPDATE SKIP LOCKED)
      RETURNING ${keyRef} AS key, attempt`.execute(db);
    return rows;
  }

  /** Changes what is still ours; returns whether it is. */
  async function update(held: { key: string; attempt: number }, change: ReturnType<typeof sql>): Promise<boolean> {
    const result = await sql`UPDATE ${tableRef} SET ${change} WHERE ${keyRef} = ${held.key} AND attempt = ${held.attempt}`.execute(db);
    return result.numAffectedRows === 1n;
  }

  async function work(held: { key: string; attempt: number }): Promise<void> {
    const lost = new AbortController();
    const renewing = renew(held, lost);
    const signal = AbortSignal.any([lost.signal, stopped.signal]);
    let change = sql`leased_until = NULL`;
    try {
      await handle({ ...held, signal });
    } catch (error) {
      if (!signal.aborted) {
        const waitMs = Math.min(retryMs.first * 2 ** Math.min(held.attempt - 1, 30), retryMs.atMost) * (0.5 + Math.random() / 2);
        log.warn({ err: error, table, key: held.key, attempt: held.attempt, retry_ms: Math.round(waitMs) }, "work failed; trying again");
        change = sql`leased_until = NULL, due_at = now() + ${intervalOf(waitMs)}`;
      }
    }
    lost.abort();
    await renewing;
    // Where it fails, the lease runs out.
    await update(held, change).catch((error: unknown) => log.warn({ err: error, table, key: held.key }, "a lease was not given back"));
  }

  async function renew(held: { key: string; attempt: number }, lost: AbortController): Promise<void> {
    for (let validMs = performance.now() + leaseMs; ; ) {
      await delay(leaseMs / 3, undefined, { signal: lost.signal }).catch(() => {});
      if (lost.signal.aborted) return;
      const startedMs = performance.now();
      try {
        if (!(await update(held, sql`leased_until = now() + ${intervalOf(leaseMs)}`))) return lost.abort();
        validMs = startedMs + leaseMs;
      } catch (error) {
        log.warn({ err: error, table, key: held.key }, "a lease was not renewed");
      }
      if (performance.now() > validMs) return lost.abort();
    }
  }

  function start(held: { key: string; attempt: number }): void {
    const done = detach(() => work(held)).finally(() => {
      running.delete(done);
      wake();
    });
    running.add(done);
  }

  async function loop(): Promise<void> {
    while (!stopped.signal.aborted) {
      woken = Promise.withResolvers();
      const free = concurrency - running.size;
      const claimed = free <= 0 ? [] : await claim(free).catch(logged);
      for (const held of claimed) start(held);
      await woken.promise;
    }
  }

  function logged(error: unknown): [] {
    log.warn({ err: error, table }, "work cannot be claimed; trying again");
    return [];
  }

  const polling = setInterval(wake, pollMs);
  const looping = loop();
  return {
    run(rowKey) {
      if (!stopped.signal.aborted) start({ key: rowKey, attempt: 1 });
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

function intervalOf(ms: number) {
  return sql`${ms} * interval '1 millisecond'`;
}
