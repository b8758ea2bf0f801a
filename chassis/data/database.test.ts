import { createServer } from "node:net";
import { INVALID_SPAN_CONTEXT, trace } from "@opentelemetry/api";
import { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";
import { sql } from "kysely";
import { Client } from "pg";
import { expect, onTestFinished, test } from "vitest";
import { type CurrentCall, runInCall } from "../rpc/current-call.ts";
import { createTestDatabase } from "../testing/database.ts";
import { eventually } from "../testing/eventually.ts";
import { openPostgresProxy } from "../testing/postgres-proxy.ts";
import { type DatabaseOptions, openDatabase } from "./database.ts";
import { isDatabaseLost } from "./database-errors.ts";

interface Tables {
  account: { account_id: string; balance: bigint };
}

async function openAccounts(overrides: Partial<DatabaseOptions> = {}) {
  const options = { ...(await createTestDatabase()), ...overrides };
  const database = openDatabase<Tables>(options);
  onTestFinished(() => database.close());
  await sql`CREATE TABLE account (account_id text PRIMARY KEY, balance int8 NOT NULL CHECK (balance >= 0))`.execute(database.db);
  await database.db
    .insertInto("account")
    .values([
      { account_id: "a", balance: 100n },
      { account_id: "b", balance: 100n },
    ])
    .execute();
  return { database, options };
}

/** A connection beside the pool's, to look at them from. */
async function connect({ url }: DatabaseOptions): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  onTestFinished(() => client.end());
  return client;
}

/** Returns a function that lets its callers go on when so many have called it, and later ones at once. */
function createBarrier(count: number): () => Promise<void> {
  const all = Promise.withResolvers<void>();
  let arrived = 0;
  return () => {
    if (++arrived === count) all.resolve();
    return all.promise;
  };
}

function callWith(signal: AbortSignal): CurrentCall {
  return {
    requestId: "test",
    span: trace.wrapSpanContext(INVALID_SPAN_CONTEXT),
    tracer: undefined,
    about: new Map(),
    passedOn: new Map(),
    method: "test",
    criticality: Criticality.DEFAULT,
    deadlineMs: undefined,
    isBackground: false,
    signal,
  };
}

test("int8 is read as bigint, beyond what a number can hold", async () => {
  const { database } = await openAccounts();
  await database.db
    .updateTable("account")
    .set({ balance: 2n ** 62n })
    .where("account_id", "=", "a")
    .execute();
  expect(await database.db.selectFrom("account").select("balance").where("account_id", "=", "a").executeTakeFirstOrThrow()).toEqual({
    balance: 2n ** 62n,
  });
});

test("transactions that deadlock are tried again, and all take effect once", async () => {
  const { database } = await openAccounts();
  const bothHoldOne = createBarrier(2);
  let tries = 0;
  const transfer = (from: string, to: string) =>
    database.transaction(async (tx) => {
      tries++;
      await tx
        .updateTable("account")
        .set((eb) => ({ balance: eb("balance", "-", 1n) }))
        .where("account_id", "=", from)
        .execute();
      await bothHoldOne();
      await tx
        .updateTable("account")
        .set((eb) => ({ balance: eb("balance", "+", 1n) }))
        .where("account_id", "=", to)
        .execute();
    });
  await Promise.all([transfer("a", "b"), transfer("b", "a")]);
  expect(tries).toBe(3);
  expect(await database.db.selectFrom("account").select(["account_id", "balance"]).orderBy("account_id").execute()).toEqual([
    { account_id: "a", balance: 100n },
    { account_id: "b", balance: 100n },
  ]);
});

test("a transaction that fails for another reason is tried once, and leaves nothing", async () => {
  const { database } = await openAccounts();
  let tries = 0;
  const overdraw = database.transaction(async (tx) => {
    tries++;
    await tx.updateTable("account").set({ balance: 7n }).where("account_id", "=", "b").execute();
    await tx.updateTable("account").set({ balance: -1n }).where("account_id", "=", "a").execute();
  });
  await expect(overdraw).rejects.toMatchObject({ code: "23514" });
  expect(tries).toBe(1);
  expect(await database.db.selectFrom("account").select("balance").execute()).toEqual([{ balance: 100n }, { balance: 100n }]);
});

test("a call that waits for a connection waits no longer than it lives, and takes none with it", async () => {
  const { database } = await openAccounts({ poolSize: 1 });
  const release = Promise.withResolvers<void>();
  const holding = Promise.withResolvers<void>();
  const holder = database.transaction(async () => {
    holding.resolve();
    await release.promise;
  });
  await holding.promise;
  const call = new AbortController();
  const waiting = runInCall(callWith(call.signal), () => database.db.selectFrom("account").selectAll().execute());
  const failed = expect(waiting).rejects.toThrow("the call was cancelled");
  call.abort();
  await failed;
  release.resolve();
  await holder;
  expect(await database.db.selectFrom("account").select("account_id").execute()).toHaveLength(2);
});

test("a connection that is lost fails its call, and the next one works", async () => {
  const { database, options } = await openAccounts({ name: "victim" });
  const broken = database.db
    .selectNoFrom(sql`pg_sleep(30)`.as("slept"))
    .execute()
    .then(
      () => expect.unreachable(),
      (error: unknown) => error,
    );
  const admin = await connect(options);
  await eventually(async () => {
    const { rows } = await admin.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim' AND query LIKE '%pg_sleep%'",
    );
    expect(rows).toHaveLength(1);
  });
  expect(isDatabaseLost(await broken)).toBe(true);
  expect(await database.db.selectFrom("account").select("account_id").execute()).toHaveLength(2);
});

test("a statement that runs too long, and a transaction that does nothing, are ended", async () => {
  const { database, options } = await openAccounts({ name: "idler", statementTimeoutMs: 50, idleInTransactionTimeoutMs: 50 });
  const admin = await connect(options);
  await expect(database.db.selectNoFrom(sql`pg_sleep(30)`.as("slept")).execute()).rejects.toMatchObject({ code: "57014" });
  const idle = database.transaction(async (tx) => {
    await sql`SELECT 1`.execute(tx);
    await eventually(async () => {
      const { rows } = await admin.query(
        "SELECT FROM pg_stat_activity WHERE application_name = 'idler' AND state LIKE 'idle in transaction%'",
      );
      expect(rows).toHaveLength(0);
    });
    await sql`SELECT 1`.execute(tx);
  });
  await expect(idle).rejects.toThrow();
  expect(await database.db.selectFrom("account").select("account_id").execute()).toHaveLength(2);
});

test.each([
  ["nobody listens", "postgres://u:p@127.0.0.1:1/d"],
  ["the socket is not there", "postgres://u:p@%2Fnowhere/d"],
])("that %s is told as a lost database", async (_title, url) => {
  const database = openDatabase<Tables>({ ...(await createTestDatabase()), url });
  onTestFinished(() => database.close());
  const error = await database.db
    .selectFrom("account")
    .selectAll()
    .execute()
    .catch((reason: unknown) => reason);
  expect(isDatabaseLost(error)).toBe(true);
});

test("a server that does not answer is a lost database, too", async () => {
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  onTestFinished(() => void silent.close());
  await new Promise((resolve) => silent.once("listening", resolve));
  const address = silent.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const database = openDatabase<Tables>({
    ...(await createTestDatabase()),
    url: `postgres://u:p@127.0.0.1:${port}/d`,
    connectTimeoutMs: 100,
  });
  onTestFinished(() => database.close());
  expect(
    isDatabaseLost(
      await database.db
        .selectFrom("account")
        .selectAll()
        .execute()
        .catch((reason: unknown) => reason),
    ),
  ).toBe(true);
});

test.each([new Error("other"), new TypeError("x"), "text", undefined])("%o is no lost database", (error) => {
  expect(isDatabaseLost(error)).toBe(false);
});

test("a server that does not answer any more costs the statement its time, and the next one connects anew", async () => {
  const options = await createTestDatabase();
  const proxy = await openPostgresProxy(options.url);
  const database = openDatabase<unknown>({ ...options, url: proxy.url, statementTimeoutMs: 100, poolSize: 3 });
  onTestFinished(() => database.close());
  const one = (): Promise<unknown> => sql`SELECT 1`.execute(database.db);
  await Promise.all([one(), one()]);
  proxy.freeze();
  const errors = await Promise.all([one(), one()].map((call) => call.catch((error: unknown) => error)));
  expect(errors.map(isDatabaseLost)).toEqual([true, true]);
  await one();
});

test("calls of one method that wait for a lock leave a connection to those of others", async () => {
  const { database, options } = await openAccounts({ poolSize: 3 });
  const locker = await connect(options);
  await locker.query("BEGIN");
  await locker.query("SELECT FROM account WHERE account_id = 'a' FOR UPDATE");
  const ended = new AbortController();
  const writeA = () => database.db.updateTable("account").set({ balance: 1n }).where("account_id", "=", "a").execute();
  const slow = Array.from({ length: 10 }, () => runInCall({ ...callWith(ended.signal), method: "slow" }, writeA));
  const readB = () => database.db.selectFrom("account").select("balance").where("account_id", "=", "b").executeTakeFirst();
  const quick = runInCall({ ...callWith(AbortSignal.timeout(3_000)), method: "quick" }, readB);
  expect((await quick)?.balance).toBe(100n);
  await locker.query("COMMIT");
  await Promise.all(slow);
});
