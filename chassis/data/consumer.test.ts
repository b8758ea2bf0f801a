import { createClient } from "@connectrpc/connect";
import { EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { NumberCountedSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { sql } from "kysely";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { implement } from "../rpc/implement.ts";
import { asService } from "../testing/auth.ts";
import { startChild } from "../testing/child.ts";
import { createTestDatabase } from "../testing/database.ts";
import { eventually } from "../testing/eventually.ts";
import { createTestLog, openTestServer, openTestTransport } from "../testing/rpc.ts";
import { createConsumerTables, listSetAside, onEvent, retrySetAside, startConsumer } from "./consumer.ts";
import { openDatabase } from "./database.ts";
import { createEventLogTables, openEventLog } from "./event-log.ts";

/** A log that is served, and the database of whoever consumes it. */
async function openBoth() {
  const source = openDatabase<unknown>(await createTestDatabase());
  await createEventLogTables(source.db);
  const log = openEventLog(source, { source: "counter", log: createTestLog().log });
  const { port, registry } = await openTestServer([implement(EventLogService, log.handlers)]);
  const options = await createTestDatabase();
  const database = openDatabase<unknown>(options);
  await createConsumerTables(database.db);
  await sql`CREATE TABLE effect (number int8 NOT NULL, process int NOT NULL, serial int8 GENERATED ALWAYS AS IDENTITY)`.execute(
    database.db,
  );
  onTestFinished(async () => {
    await log.close();
    await source.close();
    await database.close();
  });
  const append = (subject: string, ...numbers: number[]) =>
    source.transaction((tx) =>
      log.append(
        tx,
        NumberCountedSchema,
        numbers.map((number) => ({ subject, payload: { number: BigInt(number) } })),
      ),
    );
  const { headers } = await asService();
  const numbers = async (): Promise<number[]> => {
    const { rows } = await sql<{ number: bigint }>`SELECT number FROM effect ORDER BY serial`.execute(database.db);
    return rows.map(({ number }) => Number(number));
  };
  /** The process that made the last effect. */
  const workerOf = async (): Promise<number> => {
    const { rows } = await sql<{ process: number }>`SELECT process FROM effect ORDER BY serial DESC LIMIT 1`.execute(database.db);
    return rows[0]!.process;
  };
  return { append, database, url: options.url, port, registry, token: headers.authorization.slice("Bearer ".length), numbers, workerOf };
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

test("of two replicas, the one at work killed or frozen again and again, each event has its effect exactly once, in order", async () => {
  const { append, url, port, token, numbers, workerOf } = await openBoth();
  const total = 300;
  const start = () => startChild("consumer-process.ts", url, String(port), token).child;
  const appending = (async () => {
    for (const number of upTo(total)) await append(`n-${number % 7}`, number);
  })();
  let replicas = [start(), start()];
  for (const signal of ["SIGKILL", "SIGSTOP", "SIGKILL", "SIGSTOP"] as const) {
    const before = (await numbers()).length;
    await eventually(async () => expect((await numbers()).length).toBeGreaterThan(before));
    const worker = await workerOf();
    const hit = replicas.find(({ pid }) => pid === worker)!;
    hit.kill(signal);
    await append("more", 0);
    const then = (await numbers()).length;
    await eventually(async () => expect((await numbers()).length).toBeGreaterThan(then)); // by the other one
    hit.kill("SIGCONT"); // a frozen one wakes up late, and goes on beside the others
    if (signal === "SIGKILL") replicas = [...replicas.filter((one) => one !== hit), start()];
  }
  await appending;
  await append("last", total + 1);
  await eventually(async () => expect((await numbers()).at(-1)).toBe(total + 1));
  const seen = await numbers();
  expect(seen.filter((number) => number !== 0)).toEqual(upTo(total + 1));
  expect(seen.filter((number) => number === 0)).toHaveLength(4);
});

test("while the replica at work is frozen, the other goes on when its lease has run out, and what it wakes up with changes nothing", async () => {
  const { append, url, port, token, numbers } = await openBoth();
  const one = startChild("consumer-process.ts", url, String(port), token);
  await append("a", 1);
  await eventually(async () => expect(await numbers()).toEqual([1]));
  one.child.kill("SIGSTOP");
  startChild("consumer-process.ts", url, String(port), token);
  await append("a", 2, 3);
  await eventually(async () => expect(await numbers()).toEqual([1, 2, 3]));
  one.child.kill("SIGCONT");
  await append("a", 4);
  await eventually(async () => expect(await numbers()).toEqual([1, 2, 3, 4]));
});

async function openPoisoned() {
  const { append, database, port, numbers } = await openBoth();
  let isPoisonous = true;
  const consumer = await startConsumer({
    database,
    log: pino({ level: "silent" }),
    sources: {
      counter: {
        client: createClient(
          EventLogService,
          openTestTransport([port], { serviceToken: async () => (await asService()).headers.authorization.replace("Bearer ", "") }),
        ),
        handlers: [
          onEvent(NumberCountedSchema, async (tx, { number }) => {
            await sql`INSERT INTO effect (number, process) VALUES (${number}, 0)`.execute(tx);
            if (number === 2n && isPoisonous) throw new Error("two is\0 poison");
          }),
        ],
      },
    },
  });
  onTestFinished(() => consumer.stop());
  const aside = async () => {
    const { rows } = await sql<{ position: bigint; error: string }>`SELECT position, error FROM event_set_aside ORDER BY position`.execute(
      database.db,
    );
    return rows.map(({ position, error }) => [Number(position), error]);
  };
  const cure = (): void => {
    isPoisonous = false;
  };
  return { append, database, numbers, aside, cure };
}

test("an event that cannot be handled is set aside with the later ones of its subject; the others go on", async () => {
  const { append, numbers, aside } = await openPoisoned();
  await append("a", 1, 2, 3);
  await append("b", 4);
  await append("a", 5);
  await append("b", 6);
  await eventually(async () => expect(await numbers()).toEqual([1, 4, 6]));
  expect(await aside()).toEqual([
    [2, "Error: two is\u{fffd} poison"],
    [3, "an earlier event of the subject is set aside"],
    [5, "an earlier event of the subject is set aside"],
  ]);
});

test("what was set aside is handled in order when it is retried; where that fails it stays", async () => {
  const { append, database, numbers, aside, cure } = await openPoisoned();
  const retry = () => retrySetAside(database);
  await append("a", 1, 2, 3);
  await eventually(async () => expect(await aside()).toHaveLength(2));
  expect(await listSetAside(database)).toMatchObject([
    { source: "counter", position: 2n, subject: "a", type: "parley.testing.v1.NumberCounted", error: "Error: two is\u{fffd} poison" },
    { source: "counter", position: 3n },
  ]);
  expect(await retrySetAside(database, "b")).toBe(0n);
  expect(await retry()).toBe(2n);
  await eventually(async () => {
    const { rows } = await sql`SELECT 1 FROM event_set_aside WHERE retry`.execute(database.db);
    expect(rows).toEqual([]);
  });
  expect(await aside()).toHaveLength(2);
  cure();
  await retry();
  await eventually(async () => expect(await numbers()).toEqual([1, 2, 3]));
  expect(await aside()).toEqual([]);
  await append("a", 7);
  await eventually(async () => expect(await numbers()).toEqual([1, 2, 3, 7]));
});

test("a consumer that is new begins at the first event, and one that was stopped goes on where it was", async () => {
  const { append, url, port, token, numbers } = await openBoth();
  await append("a", 1, 2);
  const first = startChild("consumer-process.ts", url, String(port), token);
  await eventually(async () => expect(await numbers()).toEqual([1, 2]));
  first.child.kill("SIGKILL");
  await append("a", 3);
  startChild("consumer-process.ts", url, String(port), token);
  await eventually(async () => expect(await numbers()).toEqual([1, 2, 3]));
});

test("events of types that nobody handles are passed over, and the cursor moves past them", async () => {
  const { append, database, port, numbers } = await openBoth();
  const client = createClient(EventLogService, openTestTransport([port]));
  const { headers } = await asService();
  const { log } = createTestLog();
  const read: typeof client.read = (request, options) => client.read(request, { ...options, headers });
  const consumer = await startConsumer({ database, log, sources: { counter: { client: { ...client, read }, handlers: [] } } });
  onTestFinished(() => consumer.stop());
  await append("a", 1, 2, 3);
  const position = async () => (await sql<{ position: bigint }>`SELECT position FROM event_cursor`.execute(database.db)).rows[0]?.position;
  await eventually(async () => expect(await position()).toBe(3n));
  expect(await numbers()).toEqual([]);
});

test("a log is read by one stream, however often it is begun again", async () => {
  const { append, database, port, registry } = await openBoth();
  const client = createClient(EventLogService, openTestTransport([port]));
  const { headers } = await asService();
  let reads = 0;
  const read: typeof client.read = (request, options) => {
    reads++;
    return client.read(request, { ...options, headers });
  };
  const tooSlow = onEvent(NumberCountedSchema, async (tx) => {
    await sql`SET LOCAL statement_timeout = 1`.execute(tx);
    await sql`SELECT pg_sleep(10)`.execute(tx); // as where it waits for a lock
  });
  const sources = { counter: { client: { ...client, read }, handlers: [tooSlow] } };
  const consumer = await startConsumer({ database, log: createTestLog().log, sources });
  onTestFinished(() => consumer.stop());
  await append("a", 1);
  await eventually(() => expect(reads).toBeGreaterThan(3));
  await eventually(async () => expect(await registry.metrics()).toMatch(/^parley_rpc_server_active_calls\{[^}]*Read"\} 1$/m));
});
