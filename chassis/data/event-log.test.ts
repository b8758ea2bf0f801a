import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { type Event, EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { NumberCountedSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { type QueryExecutorProvider, sql } from "kysely";
import { expect, onTestFinished, test } from "vitest";
import { implement } from "../rpc/implement.ts";
import { asService, asUser } from "../testing/auth.ts";
import { createTestDatabase } from "../testing/database.ts";
import { eventually } from "../testing/eventually.ts";
import { failureOf } from "../testing/failure.ts";
import { createTestLog, openTestServer, openTestTransport } from "../testing/rpc.ts";
import { type DatabaseOptions, onCommit, openDatabase } from "./database.ts";
import { createEventLogTables, type EventLog, openEventLog, trimEventLog } from "./event-log.ts";

async function openLog(given?: DatabaseOptions, pollMs?: number) {
  const options = given ?? (await createTestDatabase());
  const database = openDatabase<unknown>(options);
  if (given === undefined) {
    await createEventLogTables(database.db);
  }
  const log = openEventLog(database, { source: "counter", log: createTestLog().log, ...(pollMs !== undefined && { pollMs }) });
  onTestFinished(async () => {
    await log.close();
    await database.close();
  });
  const { port } = await openTestServer([implement(EventLogService, log.handlers)]);
  const client = createClient(EventLogService, openTestTransport([port]));
  return { options, database, log, client };
}

function count(log: EventLog, tx: QueryExecutorProvider, ...numbers: number[]): Promise<void> {
  return log.append(
    tx,
    NumberCountedSchema,
    numbers.map((number) => ({ subject: `n-${number}`, payload: { number: BigInt(number) } })),
  );
}

async function read(client: Client<typeof EventLogService>, request: Parameters<typeof client.read>[0] = {}): Promise<Event[]> {
  return (await Array.fromAsync(client.read(request, await asService()))).map(({ event }) => event!);
}

test("an event has an id, a type, a source, a subject, a time, a position, and what is to be told", async () => {
  const { database, log, client } = await openLog();
  await database.transaction((tx) => count(log, tx, 7));
  const [event] = await read(client);
  expect(event).toMatchObject({ type: "parley.testing.v1.NumberCounted", source: "counter", subject: "n-7", position: 1n });
  expect(event!.eventId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(Math.abs(Number(event!.time!.seconds) - Date.now() / 1000)).toBeLessThan(60);
  expect(anyUnpack(event!.payload!, NumberCountedSchema)).toMatchObject({ number: 7n });
});

test("an append that fails, though it is sent with the commit, fails its transaction, and leaves nothing", async () => {
  const { database, log, client } = await openLog();
  await sql`CREATE TABLE done (number int)`.execute(database.db);
  await database.transaction((tx) => count(log, tx, 1));
  await sql`UPDATE event_log_head SET position = 0`.execute(database.db); // so that the next position is taken
  let told = 0;
  const appending = database.transaction(async (tx) => {
    await sql`INSERT INTO done VALUES (2)`.execute(tx);
    await count(log, tx, 2);
    onCommit(tx, () => told++);
  });
  await expect(appending).rejects.toThrow("event_log_pkey");
  expect([(await sql`SELECT * FROM done`.execute(database.db)).rows, told]).toEqual([[], 0]);
  // The connection is as good as before.
  await sql`UPDATE event_log_head SET position = 1`.execute(database.db);
  await Promise.all([3, 4, 5, 6, 7, 8].map((number) => database.transaction((tx) => count(log, tx, number))));
  expect(await read(client)).toHaveLength(7);
});

test("a transaction that is rolled back after an append leaves nothing of it", async () => {
  const { database, log, client } = await openLog();
  const rolledBack = database.transaction(async (tx) => {
    await count(log, tx, 1);
    throw new Error("not after all");
  });
  await expect(rolledBack).rejects.toThrow("not after all");
  await database.transaction((tx) => count(log, tx, 2));
  expect((await read(client)).map(({ subject, position }) => [subject, position])).toEqual([["n-2", 1n]]);
});

test("positions have the order of the commits and no gaps, whatever runs at once and is rolled back", async () => {
  const { database, log, client } = await openLog();
  await sql`CREATE TABLE done (writer int, number int, position int8)`.execute(database.db);
  const seed = Math.floor(Math.random() * 2 ** 31);
  process.stdout.write(`seed ${seed}\n`);
  let state = seed;
  const random = (): number => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
  const writers = Array.from({ length: 8 }, async (_, writer) => {
    for (let number = 0; number < 60; number++) {
      const aborts = random() < 0.3;
      const size = 1 + Math.floor(random() * 3);
      await database
        .transaction(async (tx) => {
          await sql`INSERT INTO done (writer, number) VALUES (${writer}, ${number})`.execute(tx);
          await count(log, tx, ...Array<number>(size).fill(writer * 1_000 + number));
          if (aborts) throw new Error("rolled back");
        })
        .catch((error: unknown) => expect(error).toMatchObject({ message: "rolled back" }));
    }
  });
  const leave = new AbortController();
  const seen: Event[] = [];
  const following = (async () => {
    for await (const { event } of client.read({ follow: true }, { ...(await asService()), signal: leave.signal })) seen.push(event!);
  })().catch(() => {});
  await Promise.all(writers);
  const all = await read(client);
  await eventually(() => expect(seen.length).toBe(all.length));
  leave.abort();
  await following;
  expect(seen.map(({ position }) => position)).toEqual(all.map((_, index) => BigInt(index + 1)));
  for (let writer = 0; writer < 8; writer++) {
    const numbers = seen.map(({ payload }) => Number(anyUnpack(payload!, NumberCountedSchema)!.number));
    const own = [...new Set(numbers.filter((number) => Math.floor(number / 1_000) === writer))];
    expect(own).toEqual(own.toSorted((a, b) => a - b));
    const { rows } = await sql<{ number: number }>`SELECT number FROM done WHERE writer = ${writer}`.execute(database.db);
    expect(own.map((number) => number % 1_000)).toEqual(rows.map(({ number }) => number).toSorted((a, b) => a - b));
  }
});

test("a reader begins behind any position, and gets no more than it asks for", async () => {
  const { database, log, client } = await openLog();
  for (let number = 1; number <= 450; number += 50) {
    await database.transaction((tx) => count(log, tx, ...Array.from({ length: 50 }, (_, index) => number + index)));
  }
  expect(await read(client)).toHaveLength(450);
  expect((await read(client, { afterPosition: 440n })).map(({ position }) => Number(position))).toEqual([
    441, 442, 443, 444, 445, 446, 447, 448, 449, 450,
  ]);
  expect((await read(client, { afterPosition: 100n, limit: 250 })).map(({ position }) => Number(position)).at(-1)).toBe(350);
  expect(await read(client, { afterPosition: 450n })).toEqual([]);
});

const never = 2 ** 30;

test("a reader that follows is woken by what its own process appends, and by what another replica does", async () => {
  const one = await openLog(undefined, never);
  const other = await openLog(one.options, never);
  for (const [reader, afterPosition] of [
    [one, 0n],
    [other, 2n],
  ] as const) {
    const seen: bigint[] = [];
    const reading = (async () => {
      for await (const { event } of reader.client.read({ afterPosition, follow: true, limit: 2 }, await asService()))
        seen.push(event!.position);
    })();
    await one.database.transaction((tx) => count(one.log, tx, 1));
    await eventually(() => expect(seen).toHaveLength(1));
    await one.database.transaction((tx) => count(one.log, tx, 2));
    await reading;
  }
});

test("a follower whose connection was lost listens again, and has missed nothing", async () => {
  const one = await openLog(undefined, never);
  const other = await openLog(one.options, never);
  const seen: bigint[] = [];
  const reading = (async () => {
    for await (const { event } of other.client.read({ follow: true, limit: 3 }, await asService())) seen.push(event!.position);
  })();
  const append = (number: number) => one.database.transaction((tx) => count(one.log, tx, number));
  await append(1);
  await eventually(() => expect(seen).toEqual([1n]));
  await eventually(async () => {
    const { rows } = await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'counter-listen'`.execute(one.database.db);
    expect(rows).toHaveLength(1);
  });
  await append(2);
  await eventually(() => expect(seen).toEqual([1n, 2n])); // when it listens again
  await append(3);
  await reading;
});

test("what was trimmed, and what is not there yet, is OUT_OF_RANGE", async () => {
  const { database, log, client } = await openLog();
  await database.transaction((tx) => count(log, tx, 1, 2, 3));
  await sql`UPDATE event_log SET time = now() - interval '2 days' WHERE position <= 2`.execute(database.db);
  expect(await trimEventLog(database, 86_400_000)).toBe(2n);
  expect(await trimEventLog(database, 86_400_000)).toBe(2n);
  const error = await failureOf(read(client, { afterPosition: 1n }));
  expect(error.code).toBe(Code.OutOfRange);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "CURSOR_TRIMMED", metadata: { trimmedPosition: "2" } }]);
  expect(await read(client, { afterPosition: 2n })).toHaveLength(1);
  await sql`UPDATE event_log SET time = now() - interval '2 days'`.execute(database.db);
  await trimEventLog(database, 86_400_000);
  expect(await failureOf(read(client, { afterPosition: 2n }))).toMatchObject({ code: Code.OutOfRange });
  expect(await read(client, { afterPosition: 3n })).toEqual([]);
  const ahead = await failureOf(read(client, { afterPosition: 4n }));
  expect(ahead.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "CURSOR_AHEAD" }]);
  await database.transaction((tx) => count(log, tx, 4));
  expect((await read(client, { afterPosition: 3n })).map(({ position }) => position)).toEqual([4n]);
});

test.each([{ afterPosition: -1n }, { limit: -1 }])("%o is refused", async (request) => {
  const { client } = await openLog();
  expect(await failureOf(read(client, request))).toMatchObject({ code: Code.InvalidArgument });
});

test("the log is for staff and services", async () => {
  const { client } = await openLog();
  expect(await failureOf(Array.fromAsync(client.read({})))).toMatchObject({ code: Code.Unauthenticated });
  expect(await failureOf(Array.fromAsync(client.read({}, await asUser("alice", "customer"))))).toMatchObject({
    code: Code.PermissionDenied,
  });
  expect(await Array.fromAsync(client.read({}, await asUser("bob", "staff")))).toEqual([]);
});
