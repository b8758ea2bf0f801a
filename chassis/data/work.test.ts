import { once } from "node:events";
import { sql } from "kysely";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { startChild } from "../testing/child.ts";
import { createTestDatabase } from "../testing/database.ts";
import { eventually } from "../testing/eventually.ts";
import { type Database, openDatabase } from "./database.ts";
import { addWorkColumns, startWork, type Worker, type WorkOptions } from "./work.ts";

interface Jobs {
  job: { job_id: string; handled: number; due_at: Date | null; attempt: number; leased_until: Date | null };
}

async function openJobs(): Promise<{ database: Database<Jobs>; url: string; open: () => Database<Jobs> }> {
  const options = await createTestDatabase();
  const open = (): Database<Jobs> => {
    const database = openDatabase<Jobs>(options);
    onTestFinished(() => database.close());
    return database;
  };
  const database = open();
  await sql`CREATE TABLE job (job_id text PRIMARY KEY, handled int NOT NULL DEFAULT 0)`.execute(database.db);
  await addWorkColumns(database.db, "job");
  return { database, url: options.url, open };
}

async function addDue({ db }: Database<Jobs>, count: number): Promise<void> {
  await sql`INSERT INTO job (job_id, due_at) SELECT 'job-' || n, now() FROM generate_series(1, ${count}) AS n`.execute(db);
}

async function jobsOf({ db }: Database<Jobs>) {
  return db.selectFrom("job").selectAll().orderBy("job_id").execute();
}

function work(database: Database<Jobs>, options: Partial<WorkOptions> = {}): Worker {
  const worker = startWork({
    database,
    table: "job",
    key: "job_id",
    leaseMs: 1_000,
    log: pino({ level: "silent" }),
    handle: (lease) => finish(database, lease).then(() => {}),
    ...options,
  });
  onTestFinished(() => worker.stop());
  return worker;
}

async function finish({ db }: Database<Jobs>, { key, attempt }: { key: string; attempt: number }): Promise<bigint> {
  const { numAffectedRows = 0n } = await sql`
    UPDATE job SET handled = handled + 1, due_at = NULL WHERE job_id = ${key} AND attempt = ${attempt}`.execute(db);
  return numAffectedRows;
}

test("four workers handle 10,000 rows, each once", async () => {
  const { database, open } = await openJobs();
  await addDue(database, 10_000);
  for (let count = 0; count < 4; count++) work(open(), { leaseMs: 30_000 });
  await eventually(async () => {
    expect(
      await database.db.selectFrom("job").select(sql<number>`count(*)::int`.as("left")).where("due_at", "is not", null).execute(),
    ).toEqual([{ left: 0 }]);
  });
  expect((await jobsOf(database)).filter(({ handled, attempt }) => handled !== 1 || attempt !== 1)).toEqual([]);
});

test("a row whose worker was killed is taken over when its lease has run out", async () => {
  const { database, url } = await openJobs();
  const { child, next } = startChild("work-process.ts", url);
  await addDue(database, 1);
  expect(await next()).toEqual({ claimed: "job-1", attempt: 1 });
  child.kill("SIGKILL");
  await once(child, "exit");
  const [before] = await jobsOf(database);
  const takenAt = Promise.withResolvers<Date>();
  work(database, {
    async handle(lease) {
      const { rows } = await sql<{ now: Date }>`SELECT now()`.execute(database.db);
      await finish(database, lease);
      takenAt.resolve(rows[0]!.now);
    },
  });
  expect((await takenAt.promise).getTime()).toBeGreaterThan(before!.leased_until!.getTime());
  expect(await jobsOf(database)).toMatchObject([{ handled: 1, attempt: 2, due_at: null }]);
});

test("a worker that was frozen and wakes up late changes nothing", async () => {
  const { database, url } = await openJobs();
  const { child, next } = startChild("work-process.ts", url);
  await addDue(database, 1);
  expect(await next()).toEqual({ claimed: "job-1", attempt: 1 });
  child.kill("SIGSTOP");
  work(database);
  await eventually(async () => expect(await jobsOf(database)).toMatchObject([{ handled: 1, attempt: 2, due_at: null }]));
  child.kill("SIGCONT");
  child.send("finish");
  expect(await next()).toEqual({ changed: 0 });
  expect(await jobsOf(database)).toMatchObject([{ handled: 1, attempt: 2 }]);
});

test("a lease is renewed while its row is worked on, and its signal fires when it is lost", async () => {
  const { database } = await openJobs();
  const claimed = Promise.withResolvers<void>();
  const lost = Promise.withResolvers<void>();
  work(database, {
    leaseMs: 300,
    async handle({ signal }) {
      signal.addEventListener("abort", () => lost.resolve());
      claimed.resolve();
      await lost.promise;
    },
  });
  await addDue(database, 1);
  await claimed.promise;
  const [first] = await jobsOf(database);
  await eventually(async () => {
    const [later] = await jobsOf(database);
    expect(later!.leased_until!.getTime()).toBeGreaterThan(first!.leased_until!.getTime() + 600);
    expect(later!.attempt).toBe(1);
  });
  await sql`UPDATE job SET attempt = attempt + 1`.execute(database.db); // as another worker's claim does
  await lost.promise;
});

test("what fails is tried again later", async () => {
  const { database } = await openJobs();
  let tried = 0;
  const waits: number[] = [];
  work(database, {
    async handle(lease) {
      const { rows } = await sql<{ waited: number }>`
        SELECT extract(epoch FROM now() - due_at)::float8 AS waited FROM job`.execute(database.db);
      waits.push(rows[0]!.waited);
      if (++tried < 3) throw new Error("not yet");
      await finish(database, lease);
    },
  });
  const startedMs = performance.now();
  await addDue(database, 1);
  await eventually(async () => expect(await jobsOf(database)).toMatchObject([{ handled: 1, attempt: 3, due_at: null }]));
  expect(performance.now() - startedMs).toBeGreaterThan(250 + 500); // half of the first waits, 0.5 s and 1 s
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(0); // never before it was due
});

test("a worker that stops gives its leases back, so that another goes on at once", async () => {
  const { database } = await openJobs();
  const claimed = Promise.withResolvers<void>();
  const worker = work(database, {
    leaseMs: 600_000,
    handle: async ({ signal }) => {
      claimed.resolve();
      await once(signal, "abort");
    },
  });
  await addDue(database, 1);
  await claimed.promise;
  await worker.stop();
  expect(await jobsOf(database)).toMatchObject([{ leased_until: null, attempt: 1 }]);
  work(database);
  await eventually(async () => expect(await jobsOf(database)).toMatchObject([{ handled: 1, attempt: 2 }]));
});

test("a row that was made with its first lease is worked on at once, and by nobody else", async () => {
  const { database, open } = await openJobs();
  const worker = work(database, { leaseMs: 600_000 });
  const other: string[] = [];
  const otherWorker = work(open(), { handle: async ({ key }) => void other.push(key) });
  await database.db
    .insertInto("job")
    .values({ job_id: "mine", handled: 0, ...worker.firstLease() })
    .execute();
  otherWorker.wake();
  worker.run("mine");
  await eventually(async () => expect(await jobsOf(database)).toMatchObject([{ handled: 1, attempt: 1, due_at: null }]));
  expect(other).toEqual([]);
});

test("rows are not claimed before they are due", async () => {
  const { database } = await openJobs();
  await sql`INSERT INTO job (job_id, due_at) VALUES ('later', now() + interval '1 hour'), ('now', now())`.execute(database.db);
  const worker = work(database);
  await eventually(async () => expect((await jobsOf(database)).map(({ handled }) => handled)).toEqual([0, 1]));
  await worker.stop();
  expect((await jobsOf(database)).map(({ handled, attempt }) => [handled, attempt])).toEqual([
    [0, 0],
    [1, 1],
  ]);
});

test("a worker claims its own rows alone, where it says which", async () => {
  const { database } = await openJobs();
  await addDue(database, 3);
  const worker = work(database, { only: ["job-2"] });
  await eventually(async () => expect((await jobsOf(database)).map(({ handled }) => handled)).toEqual([0, 1, 0]));
  await worker.stop();
  expect((await jobsOf(database)).map(({ attempt }) => attempt)).toEqual([0, 1, 0]);
});

test("a database that does not answer fires the signal when the lease has run out", async () => {
  const { database } = await openJobs();
  const claimed = Promise.withResolvers<void>();
  const lost = Promise.withResolvers<void>();
  work(database, {
    leaseMs: 400,
    async handle({ signal }) {
      claimed.resolve();
      signal.addEventListener("abort", () => lost.resolve());
      await lost.promise;
    },
  });
  await addDue(database, 1);
  await claimed.promise;
  const unlock = Promise.withResolvers<void>();
  const holding = database.transaction(async (tx) => {
    await sql`SELECT 1 FROM job FOR UPDATE`.execute(tx); // so that no renewal comes through
    await unlock.promise;
  });
  await lost.promise;
  unlock.resolve();
  await holding;
});

test("rows that a worker runs itself do not keep it from claiming others", async () => {
  const { database } = await openJobs();
  const over = Promise.withResolvers<void>();
  const worker = work(database, {
    concurrency: 1,
    async handle(lease) {
      if (lease.key.startsWith("mine")) await over.promise;
      await finish(database, lease);
    },
  });
  for (const key of ["mine-1", "mine-2"]) {
    await database.db
      .insertInto("job")
      .values({ job_id: key, handled: 0, ...worker.firstLease() })
      .execute();
    worker.run(key);
  }
  await addDue(database, 2);
  await eventually(async () => expect((await jobsOf(database)).map(({ handled }) => handled)).toEqual([1, 1, 0, 0]));
  over.resolve();
  await eventually(async () => expect((await jobsOf(database)).map(({ handled }) => handled)).toEqual([1, 1, 1, 1]));
});
