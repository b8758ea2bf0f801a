import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as delay, setImmediate as immediate } from "node:timers/promises";
import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { type Span, SpanKind } from "@opentelemetry/api";
import { type Event, type EventLogService, EventSchema } from "@parley/gen/parley/events/v1/events_pb.js";
import { type QueryExecutorProvider, sql, type Transaction } from "kysely";
import { DatabaseError } from "pg";
import type { Logger } from "pino";
import { runInBackground } from "../rpc/current-call.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { parseTraceparent } from "../telemetry/trace.ts";
import { type AnyDatabase, type Database, onCommit } from "./database.ts";
import { isDatabaseLost } from "./database-errors.ts";
import { watchEvents } from "./event-metrics.ts";
import { addWorkColumns, type Lease, startWork, type Worker } from "./work.ts";

/** How often an event is tried before it is set aside, and the wait in between. */
const tries = { attempts: 3, waitMs: 100 };
/** Events that are handled in one transaction at most, where they have come already. */
const batchSize = 50;
/** How long to wait before a log that cannot be read is tried again, and how often to look for events to retry. */
const pauseMs = 1_000;

/** What a consumer does with the events of one type. */
export interface EventHandler<Schema> {
  readonly type: string;
  handle(tx: Transaction<Schema>, event: Event): Promise<void>;
}

/**
 * Makes the handler of a type of events. Its effect is in the transaction that it is given, which
 * moves the cursor too: so it happens exactly once. It calls nobody else.
 */
export function onEvent<Desc extends DescMessage, Schema>(
  schema: Desc,
  handle: (tx: Transaction<Schema>, payload: MessageShape<Desc>, event: Event) => Promise<void>,
): EventHandler<Schema> {
  return {
    type: schema.typeName,
    handle: async (tx, event) => handle(tx, fromBinary(schema, event.payload?.value ?? new Uint8Array()), event),
  };
}

/** Creates the tables of a service that consumes events, in a migration. */
export async function createConsumerTables(db: QueryExecutorProvider): Promise<void> {
  await sql`CREATE TABLE event_cursor (source text PRIMARY KEY, position int8 NOT NULL DEFAULT 0)`.execute(db);
  await addWorkColumns(db, "event_cursor");
  await sql`CREATE TABLE event_set_aside (
    source text NOT NULL,
    position int8 NOT NULL,
    subject text NOT NULL,
    event bytea NOT NULL,
    error text NOT NULL,
    retry bool NOT NULL DEFAULT false,
    PRIMARY KEY (source, position)
  )`.execute(db);
  await sql`CREATE INDEX event_set_aside_by_subject ON event_set_aside (source, subject, position)`.execute(db);
}

/**
 * Consumes the logs of other services, each by one replica at a time, which holds the log's cursor
 * as leased work. Events of other types than those handled are passed over; the cursor moves past
 * them with the next one that is handled, or within a second.
 *
 * An event that fails in three tries of its own, or cannot be decoded, is set aside with all later ones of its
 * subject, until `npm run events -- retry` asks for them.
 */
export async function startConsumer<Schema>(options: {
  readonly database: Database<Schema>;
  readonly log: Logger;
  /** For each log, by the name of its service: a client of it, and what to do with its events. */
  readonly sources: Readonly<Record<string, { client: Client<typeof EventLogService>; handlers: readonly EventHandler<Schema>[] }>>;
  readonly leaseMs?: number;
}): Promise<Worker> {
  const { database, log, sources } = options;
  const { db, telemetry } = database;
  const tracer = telemetry?.tracer;
  const names = Object.keys(sources);
  await sql`INSERT INTO event_cursor (source, due_at) SELECT source, now() FROM unnest(${names}::text[]) AS source
    ON CONFLICT DO NOTHING`.execute(db);

  if (telemetry !== undefined) for (const source of names) watchConsumer(telemetry, source);
  return startWork({
    database,
    table: "event_cursor",
    key: "source",
    only: names,
    concurrency: names.length,
    isEndless: true,
    ...(options.leaseMs !== undefined && { leaseMs: options.leaseMs }),
    log,
    async handle(lease) {
      const source = sources[lease.key];
      if (source === undefined) throw new Error(`${lease.key} is claimed, but not consumed`);
      const handlers = new Map(source.handlers.map((handler) => [handler.type, handler]));
      await Promise.all([follow(lease, source.client, handlers), retryAll(lease, handlers)]);
    },
  });

  function watchConsumer(of: Telemetry, source: string): void {
    watchEvents(of, { name: "position", source }, async () => {
      const { rows } = await sql<{ position: bigint }>`SELECT position FROM event_cursor WHERE source = ${source}`.execute(db);
      return Number(rows[0]?.position);
    });
    watchEvents(of, { name: "set aside", source }, async () => {
      const { rows } = await sql<{ count: bigint }>`SELECT count(*) FROM event_set_aside WHERE source = ${source}`.execute(db);
      return Number(rows[0]?.count);
    });
  }

  async function follow(lease: Lease, client: Client<typeof EventLogService>, handlers: Handlers<Schema>): Promise<void> {
    let passed: bigint | undefined; // of an event, all before which were handled or passed over
    const saving = setInterval(() => {
      if (passed !== undefined) void passOver(lease, passed).catch(() => {}); // it moves with the next one
      passed = undefined;
    }, pauseMs);
    for (let failures = 0; !lease.signal.aborted; await pause(lease)) {
      const reading = new AbortController(); // a stream is left by its signal alone
      try {
        const { rows } = await sql<{ position: bigint }>`SELECT position FROM event_cursor WHERE source = ${lease.key}`.execute(db);
        const afterPosition = rows[0]?.position ?? 0n;
        const answers = client.read({ afterPosition, follow: true }, { signal: AbortSignal.any([lease.signal, reading.signal]) });
        for await (const batch of batchesOf(answers, batchSize)) {
          const events = batch.flatMap(({ event }) => event ?? []);
          const isHandled = events.some(({ type }) => handlers.has(type));
          if (isHandled) await apply(lease, events, handlers);
          passed = isHandled ? undefined : events.at(-1)?.position;
          failures = 0;
        }
      } catch (error) {
        if (lease.signal.aborted) break;
        failures++;
        const isAway = error instanceof ConnectError && error.code === Code.Unavailable;
        const expected = error instanceof LeaseLost || isDatabaseLost(error) || isAway;
        // A service that starts at the same time is away at first.
        const level = isAway && failures <= 5 ? "debug" : expected ? "warn" : "error";
        log[level]({ err: error, source: lease.key }, "a log cannot be followed; trying again");
      } finally {
        reading.abort();
      }
    }
    clearInterval(saving);
  }

  async function passOver(lease: Lease, position: bigint): Promise<void> {
    await sql`UPDATE event_cursor SET position = ${position}
      WHERE source = ${lease.key} AND attempt = ${lease.attempt} AND position < ${position}`.execute(db);
  }

  /** Handles events that came together in one transaction; where that fails, each in one of its own. */
  async function apply(lease: Lease, events: readonly Event[], handlers: Handlers<Schema>): Promise<void> {
    try {
      await handleAll(lease, events, handlers);
    } catch (error) {
      if (isNoFaultOfEvent(lease, error)) throw error;
      for (const event of events) await applyOne(lease, event, handlers);
    }
  }

  async function applyOne(lease: Lease, event: Event, handlers: Handlers<Schema>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await handleAll(lease, [event], handlers);
      } catch (error) {
        if (isNoFaultOfEvent(lease, error)) throw error;
        log.error({ err: error, source: lease.key, position: String(event.position), attempt }, "an event cannot be handled");
        if (attempt < tries.attempts) await delay(tries.waitMs * attempt, undefined, { signal: lease.signal });
        else {
          return database.transaction(async (tx) => {
            if ((await lockCursor(tx, lease)) >= event.position) return;
            await setAside(tx, lease, event, textOf(error));
            await moveCursor(tx, lease, event);
          });
        }
      }
    }
  }

  /** In a trace of its own, and each event within the one that it comes from, so that what led to it leads to its effects. */
  async function handleAll(lease: Lease, events: readonly Event[], handlers: Handlers<Schema>): Promise<void> {
    const parents = events.map(({ traceparent }) => parseTraceparent(traceparent)).filter((parent) => parent !== undefined);
    const links = parents.map((context) => ({ context }));
    const name = `consume ${lease.key}`;
    const batch = { name, kind: SpanKind.CONSUMER, origin: { requestId: undefined, parent: undefined }, tracer, links };
    await runInBackground(batch, (span) => handleBatch(lease, events, handlers, span));
  }

  async function handleBatch(lease: Lease, events: readonly Event[], handlers: Handlers<Schema>, span: Span): Promise<void> {
    await database.transaction(async (tx) => {
      const cursor = await lockCursor(tx, lease);
      const fresh = events.filter(({ position }) => position > cursor);
      const last = fresh.at(-1);
      if (last === undefined) return;
      const { rows } = await sql<{ subject: string }>`SELECT DISTINCT subject FROM event_set_aside
        WHERE source = ${lease.key} AND subject = ANY(${fresh.map(({ subject }) => subject)})`.execute(tx);
      const setAsideSubjects = new Set(rows.map(({ subject }) => subject));
      for (const event of fresh) {
        const handler = handlers.get(event.type);
        if (handler === undefined) continue; // passed over
        if (setAsideSubjects.has(event.subject)) await setAside(tx, lease, event, "an earlier event of the subject is set aside");
        else await handleOne(tx, event, handler, span);
      }
      await moveCursor(tx, lease, last);
    });
  }

  async function handleOne(tx: Transaction<Schema>, event: Event, handler: EventHandler<Schema>, batch: Span | undefined): Promise<void> {
    const { eventId, type, subject, source, requestId, traceparent } = event;
    await runInBackground(
      {
        name: `process ${type}`,
        kind: SpanKind.CONSUMER,
        origin: { requestId: requestId === "" ? undefined : requestId, parent: parseTraceparent(traceparent) },
        tracer,
        about: new Map([
          ["event_id", eventId],
          ["subject", subject],
        ]),
        attributes: {
          "messaging.system": "parley",
          "messaging.operation.type": "process",
          "messaging.destination.name": source,
          "messaging.message.id": eventId,
        },
        ...(batch && { links: [{ context: batch.spanContext() }] }),
      },
      async () => {
        await handler.handle(tx, event);
        const told = { type, source, position: String(event.position) };
        onCommit(
          tx,
          AsyncLocalStorage.bind(() => log.info(told, "an event was handled")),
        ); // with the ids of what led to it
      },
    );
  }

  /** Handles what was set aside and is to be tried again, in the order of each subject. */
  async function retryAll(lease: Lease, handlers: Handlers<Schema>): Promise<void> {
    for (; !lease.signal.aborted; await pause(lease)) {
      try {
        const { rows } = await sql<{ subject: string }>`
          SELECT DISTINCT subject FROM event_set_aside WHERE source = ${lease.key} AND retry`.execute(db);
        for (const { subject } of rows) while (await retryFirst(lease, subject, handlers));
      } catch (error) {
        if (!lease.signal.aborted) log.warn({ err: error, source: lease.key }, "events that were set aside cannot be retried");
      }
    }
  }

  /** Handles the first event of a subject that was set aside; returns whether to go on with the next. */
  async function retryFirst(lease: Lease, subject: string, handlers: Handlers<Schema>): Promise<boolean> {
    try {
      return await database.transaction(async (tx) => {
        await lockCursor(tx, lease);
        const { rows } = await sql<{ position: bigint; event: Buffer }>`SELECT position, event FROM event_set_aside
          WHERE source = ${lease.key} AND subject = ${subject} ORDER BY position LIMIT 1`.execute(tx);
        if (rows[0] === undefined) return false;
        const event = fromBinary(EventSchema, rows[0].event);
        const handler = handlers.get(event.type);
        if (handler !== undefined) await handleOne(tx, event, handler, undefined);
        await sql`DELETE FROM event_set_aside WHERE source = ${lease.key} AND position = ${event.position}`.execute(tx);
        return true;
      });
    } catch (error) {
      if (isNoFaultOfEvent(lease, error)) throw error;
      await database.transaction(async (tx) => {
        await lockCursor(tx, lease);
        await sql`UPDATE event_set_aside SET retry = false WHERE source = ${lease.key} AND subject = ${subject}`.execute(tx);
        await sql`UPDATE event_set_aside SET error = ${textOf(error)} WHERE source = ${lease.key} AND position =
          (SELECT min(position) FROM event_set_aside WHERE source = ${lease.key} AND subject = ${subject})`.execute(tx);
      });
      return false;
    }
  }
}

/** An event that a consumer set aside, and why. */
interface SetAsideEvent {
  readonly source: string;
  readonly position: bigint;
  readonly subject: string;
  readonly type: string;
  readonly error: string;
}

/** Lists the events that a service has set aside, in their order. */
export async function listSetAside({ db }: AnyDatabase): Promise<SetAsideEvent[]> {
  const { rows } = await sql<Omit<SetAsideEvent, "type"> & { event: Buffer }>`
    SELECT source, position, subject, event, error FROM event_set_aside ORDER BY source, position`.execute(db);
  return rows.map(({ event, ...row }) => ({ ...row, type: fromBinary(EventSchema, event).type }));
}

/** Asks the service to try what it has set aside, of one subject or of all, again; returns how many events that are. */
export async function retrySetAside({ db }: AnyDatabase, subject?: string): Promise<bigint> {
  const { numAffectedRows = 0n } = await sql`
    UPDATE event_set_aside SET retry = true WHERE ${subject ?? null}::text IS NULL OR subject = ${subject ?? null}`.execute(db);
  return numAffectedRows;
}

/** Moves a service's cursor of a log, forward or back; who follows the log begins anew there. Returns whether the service reads that log. */
export async function skipEvents({ db }: AnyDatabase, source: string, position: bigint): Promise<boolean> {
  const { numAffectedRows } = await sql`UPDATE event_cursor
    SET position = ${position}, attempt = attempt + 1, leased_until = NULL WHERE source = ${source}`.execute(db);
  return numAffectedRows === 1n;
}

type Handlers<Schema> = ReadonlyMap<string, EventHandler<Schema>>;

/** Another replica has the cursor by now; the lease's signal is about to say so. */
class LeaseLost extends Error {
  override name = "LeaseLost";
}

function isNoFaultOfEvent({ signal }: Lease, error: unknown): boolean {
  const isTooSlow = error instanceof DatabaseError && ["55P03", "57014"].includes(error.code ?? ""); // perhaps for a lock that passes
  return signal.aborted || error instanceof LeaseLost || isTooSlow || isDatabaseLost(error);
}

/** Locks the cursor, so that one effect happens at a time, and returns its position. Throws LeaseLost. */
async function lockCursor(tx: QueryExecutorProvider, lease: Lease): Promise<bigint> {
  const { rows } = await sql<{ position: bigint }>`
    SELECT position FROM event_cursor WHERE source = ${lease.key} AND attempt = ${lease.attempt} FOR UPDATE`.execute(tx);
  if (rows[0] === undefined) throw new LeaseLost();
  return rows[0].position;
}

/** As Postgres takes it. */
function textOf(error: unknown): string {
  return String(error).replaceAll("\0", "\u{fffd}").slice(0, 1_000);
}

async function moveCursor(tx: QueryExecutorProvider, lease: Lease, { position }: Event): Promise<void> {
  await sql`UPDATE event_cursor SET position = ${position} WHERE source = ${lease.key}`.execute(tx);
}

async function setAside(tx: QueryExecutorProvider, lease: Lease, event: Event, error: string): Promise<void> {
  await sql`INSERT INTO event_set_aside (source, position, subject, event, error)
    VALUES (${lease.key}, ${event.position}, ${event.subject}, ${Buffer.from(toBinary(EventSchema, event))}, ${error})
    ON CONFLICT DO NOTHING`.execute(tx);
}

/** Yields what has come, as soon as something has, together with what else is there already. */
async function* batchesOf<T>(items: AsyncIterable<T>, most: number): AsyncGenerator<T[]> {
  const iterator = items[Symbol.asyncIterator]();
  let next = iterator.next();
  for (let one = await next; !one.done; one = await next) {
    const batch = [one.value];
    next = iterator.next();
    while (batch.length < most) {
      const more = await Promise.race([next, immediate(undefined)]);
      if (more === undefined || more.done) break;
      batch.push(more.value);
      next = iterator.next();
    }
    next.catch(() => {}); // it is awaited when the batch was handled
    yield batch;
  }
}

async function pause(lease: Lease): Promise<void> {
  await delay(pauseMs, undefined, { signal: lease.signal }).catch(() => {});
}
