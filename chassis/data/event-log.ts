import { setTimeout as delay } from "node:timers/promises";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { ErrorReason, ErrorReasonSchema, type EventLogService, type EventSchema } from "@parley/gen/parley/events/v1/events_pb.js";
import { type QueryExecutorProvider, sql } from "kysely";
import { Client } from "pg";
import type { Logger } from "pino";
import { createId } from "../id.ts";
import { detach } from "../rpc/current-call.ts";
import { createFail } from "../rpc/errors.ts";
import { type AnyDatabase, onCommit } from "./database.ts";
import { watchEvents } from "./event-metrics.ts";
import { addOriginColumns, type OriginValues, origin } from "./origin.ts";
import { withCommit } from "./pool.ts";

/** Events that are read at once. */
const batchSize = 200;
/** Events that are deleted at once. */
const trimSlice = 10_000;
/** How often readers look for events that nobody woke them for, and how long to wait before a connection is tried again. Default of `pollMs`. */
const defaultPollMs = 1_000;
/** Time to connect, and to close. */
const connectMs = 5_000;
/** The least time between two notifications of other replicas: those of commits in between are one. */
const notifyMs = 50;
/** How long a reader that was woken waits for more, so that it reads several events at once. */
const gatherMs = 10;
const channel = "event_log";

const fail = createFail(ErrorReasonSchema);

/** An event that is to be appended; its type is its payload's. */
export interface NewEvent<Desc extends DescMessage> {
  readonly subject: string;
  readonly payload: MessageInitShape<Desc>;
}

/** The event log of a service, in its database. */
export interface EventLog {
  /**
   * Appends events, as the last statement of the transaction that makes them true: from here to
   * the commit all others that append wait, so that positions have the order of the commits and no
   * gaps.
   */
  append<Desc extends DescMessage>(tx: QueryExecutorProvider, schema: Desc, events: readonly NewEvent<Desc>[]): Promise<void>;
  /** Serves the log. */
  readonly handlers: ServiceImpl<typeof EventLogService>;
  /** Ends its connection, and the streams of its readers with it. */
  close(): Promise<void>;
}

/** Creates the tables of an event log, in a migration. */
export async function createEventLogTables(db: QueryExecutorProvider): Promise<void> {
  await sql`CREATE TABLE event_log_head (
    position int8 NOT NULL,
    trimmed_position int8 NOT NULL,
    one bool PRIMARY KEY DEFAULT true CHECK (one)
  )`.execute(db);
  await sql`INSERT INTO event_log_head (position, trimmed_position) VALUES (0, 0)`.execute(db);
  await sql`CREATE TABLE event_log (
    position int8 PRIMARY KEY,
    event_id uuid NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    time timestamptz NOT NULL DEFAULT clock_timestamp(),
    payload bytea NOT NULL
  )`.execute(db);
  await addOriginColumns(db, "event_log");
}

/**
 * Opens the log of the service that goes by this name. Readers are woken by commits of this
 * process and, over a connection that listens, of other replicas; what that misses, because the
 * connection was lost, they see a second later.
 */
export function openEventLog(
  database: AnyDatabase,
  { source, pollMs = defaultPollMs, log }: { readonly source: string; readonly pollMs?: number; readonly log: Logger },
): EventLog {
  const { db } = database;
  const closed = new AbortController();
  let appended = Promise.withResolvers<void>();
  const wake = (): void => {
    appended.resolve();
    appended = Promise.withResolvers();
  };
  const polling = setInterval(wake, pollMs);
  if (database.telemetry !== undefined) watchEvents(database.telemetry, { name: "head", source }, () => headOf(database));
  let listening: Promise<void> | undefined; // as soon as somebody reads

  let notifying = false;
  const onAppended = (): void => {
    wake();
    if (notifying) return;
    notifying = true;
    const notify = (): void => {
      notifying = false;
      // Not in the transaction: commits that notify wait for each other (1,500 to 2,500 a second, measured).
      sql`SELECT pg_notify(${channel}, '')`.execute(db).catch(() => {}); // readers poll
    };
    detach(() => setTimeout(notify, notifyMs));
  };

  async function readBatch(after: bigint, limit: number, isFirst: boolean): Promise<MessageInitShape<typeof EventSchema>[]> {
    const { rows } = await sql<
      { position: bigint; event_id: string; type: string; subject: string; time: Date; payload: Buffer } & OriginValues
    >`
      SELECT * FROM event_log WHERE position > ${after} ORDER BY position LIMIT ${limit}`.execute(db);
    if (rows[0] === undefined ? isFirst : rows[0].position !== after + 1n) await assertWithin(after);
    return rows.map(({ position, event_id: eventId, type, subject, time, payload, ...row }) => ({
      eventId,
      type,
      source,
      subject,
      time: timestampFromDate(time),
      position,
      payload: { typeUrl: `type.googleapis.com/${type}`, value: payload },
      traceparent: row.origin_traceparent ?? "",
      requestId: row.origin_request_id ?? "",
    }));
  }

  async function assertWithin(position: bigint): Promise<void> {
    const { rows } = await sql<{ position: bigint; trimmed_position: bigint }>`SELECT * FROM event_log_head`.execute(db);
    const { position: head = 0n, trimmed_position: trimmed = 0n } = rows[0] ?? {};
    if (position < trimmed)
      throw fail(ErrorReason.CURSOR_TRIMMED, `events up to ${trimmed} are deleted`, { trimmedPosition: String(trimmed) });
    if (position > head) throw fail(ErrorReason.CURSOR_AHEAD, `the log ends at ${head}`, { position: String(head) });
  }

  return {
    async append(tx, schema, events) {
      await appendEvents(tx, schema, events);
      if (events.length > 0) onCommit(tx, onAppended);
    },
    handlers: {
      async *read({ afterPosition, limit, follow }, { signal }) {
        listening ??= detach(() => listen({ url: database.url, name: `${source}-listen`, onNotified: wake, signal: closed.signal, log }));
        let position = afterPosition;
        for (let left = limit === 0 ? Number.POSITIVE_INFINITY : limit; left > 0; ) {
          const more = appended.promise; // taken before reading: what is appended meanwhile wakes us
          const events = await readBatch(position, Math.min(batchSize, left), position === afterPosition);
          for (const event of events) yield { event };
          position += BigInt(events.length);
          left -= events.length;
          if (events.length > 0) continue;
          if (!follow || signal.aborted || closed.signal.aborted) return;
          await more;
          await delay(gatherMs);
        }
      },
    },
    async close() {
      clearInterval(polling);
      closed.abort();
      wake();
      await listening;
    },
  };
}

/** Appends events as the log's append() does, but wakes no reader: they see them within a second. For migrations and tools. */
export async function appendEvents<Desc extends DescMessage>(
  tx: QueryExecutorProvider,
  schema: Desc,
  events: readonly NewEvent<Desc>[],
): Promise<void> {
  if (events.length === 0) return;
  const { origin_request_id: requestId, origin_traceparent: traceparent } = origin();
  const rows = events.map(({ subject, payload }) => ({ subject, bytes: toBinary(schema, create(schema, payload)) }));
  await sql`${sql.raw(withCommit)}
    WITH head AS (UPDATE event_log_head SET position = position + ${rows.length} RETURNING position)
    INSERT INTO event_log (position, event_id, type, subject, payload, origin_request_id, origin_traceparent)
    SELECT head.position - ${rows.length} + row, event_id, ${schema.typeName}, subject, payload, ${requestId}::text, ${traceparent}::text
    FROM head, unnest(${rows.map(() => createId())}::uuid[], ${rows.map(({ subject }) => subject)}::text[],
      ${rows.map(({ bytes }) => Buffer.from(bytes))}::bytea[]) WITH ORDINALITY AS event (event_id, subject, payload, row)`.execute(tx);
}

async function headOf({ db }: AnyDatabase): Promise<number> {
  const { rows } = await sql<{ position: bigint }>`SELECT position FROM event_log_head`.execute(db);
  return Number(rows[0]?.position);
}

/** Deletes events that are older, in the server's time; returns the position of the last that is deleted. */
export async function trimEventLog({ db }: AnyDatabase, olderThanMs: number): Promise<bigint> {
  const { rows: old } = await sql<{ position: bigint | null }>`
    SELECT max(position) AS position FROM event_log WHERE time < now() - ${olderThanMs} * interval '1 millisecond'`.execute(db);
  const { rows } = await sql<{ trimmed_position: bigint }>`UPDATE event_log_head
    SET trimmed_position = greatest(trimmed_position, ${old[0]?.position ?? 0n}) RETURNING trimmed_position`.execute(db);
  const trimmed = rows[0]?.trimmed_position ?? 0n;
  // Apart from the head, for which all that append wait, and in slices, each of which a statement's time is enough for.
  for (let deleted = 1n; deleted > 0n; ) {
    const result = await sql`DELETE FROM event_log WHERE position IN
      (SELECT position FROM event_log WHERE position <= ${trimmed} ORDER BY position LIMIT ${trimSlice})`.execute(db);
    deleted = result.numAffectedRows ?? 0n;
  }
  return trimmed;
}

/** Keeps a connection that listens until the signal fires. */
async function listen(options: {
  readonly url: string;
  readonly name: string;
  readonly onNotified: () => void;
  readonly signal: AbortSignal;
  readonly log: Logger;
}): Promise<void> {
  const { url, name, onNotified, signal, log } = options;
  while (!signal.aborted) {
    const client = new Client({
      connectionString: url,
      application_name: name,
      connectionTimeoutMillis: connectMs,
      query_timeout: connectMs,
      keepAlive: true,
    });
    const lost = Promise.withResolvers<void>();
    const end = (): void => lost.resolve();
    client.on("error", end).on("end", end).on("notification", onNotified);
    signal.addEventListener("abort", end);
    try {
      await client.connect();
      await client.query(`LISTEN ${channel}`);
      onNotified(); // for what came before we listened
      await lost.promise;
    } catch (error) {
      log.debug({ err: error }, "cannot listen for events; trying again");
    }
    signal.removeEventListener("abort", end);
    // A server that does not answer does not say goodbye either.
    const bounded = new AbortController();
    await Promise.race([client.end().catch(() => {}), delay(connectMs, undefined, { signal: bounded.signal }).catch(() => {})]);
    bounded.abort();
    await delay(defaultPollMs, undefined, { signal }).catch(() => {});
  }
}
