import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { sql } from "kysely";
import { expect, onTestFinished, test } from "vitest";
import { StartError } from "../start-error.ts";
import { createTestDatabase } from "../testing/database.ts";
import { eventually } from "../testing/eventually.ts";
import { findFreePorts } from "../testing/ports.ts";
import { openPostgresProxy } from "../testing/postgres-proxy.ts";
import { createTestLog } from "../testing/rpc.ts";
import { type DatabaseOptions, openDatabase } from "./database.ts";
import { loadMigrations, migrate } from "./migrations.ts";

/** A folder of migrations, each of which adds its number to a list. */
function writeMigrations(sources: Record<string, string>): URL {
  const folder = mkdtempSync(join(tmpdir(), "parley-migrations-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const [name, source] of Object.entries(sources)) writeFileSync(join(folder, name), source);
  return pathToFileURL(`${folder}/`);
}

const create = 'export const up = (db) => db.schema.createTable("list").addColumn("n", "integer").execute();';
const add = (n: number, more = ""): string => `export const up = (db) => db.insertInto("list").values({ n: ${n} }).execute(); ${more}`;

async function listOf(options: DatabaseOptions): Promise<number[]> {
  const database = openDatabase<unknown>(options);
  try {
    const { rows } = await sql<{ n: number }>`SELECT n FROM list ORDER BY n`.execute(database.db);
    return rows.map(({ n }) => n);
  } finally {
    await database.close();
  }
}

test("migrations run in their order, each once", async () => {
  const options = await createTestDatabase();
  const { log, logs } = createTestLog();
  const folder = writeMigrations({ "0002_add_two.ts": add(2), "0001_create_list.ts": create, "0003_add_three.ts": add(3) });
  for (let start = 0; start < 2; start++) await migrate(options, await loadMigrations(folder), log);
  expect(await listOf(options)).toEqual([2, 3]);
  expect(logs.map(({ migration }) => migration)).toEqual(["0001_create_list", "0002_add_two", "0003_add_three"]);
});

test("of replicas that start at once, one does each step", async () => {
  const options = await createTestDatabase();
  const migrations = await loadMigrations(
    writeMigrations({ "0001_create_list.ts": create, "0002_add_two.ts": add(2), "0003_add_three.ts": add(3) }),
  );
  await Promise.all(Array.from({ length: 4 }, () => migrate(options, migrations, createTestLog().log)));
  expect(await listOf(options)).toEqual([2, 3]);
});

test("a database that is ahead of the code, as after a rollback, is left as it is", async () => {
  const options = await createTestDatabase();
  const migrations = await loadMigrations(writeMigrations({ "0001_create_list.ts": create, "0002_add_two.ts": add(2) }));
  await migrate(options, migrations, createTestLog().log);
  const { log, logs } = createTestLog();
  await migrate(options, migrations.slice(0, 1), log);
  expect(logs).toMatchObject([{ body: "the database is ahead of the code", database: 2, code: 1 }]);
  expect(await listOf(options)).toEqual([2]);
});

test("a database that needs newer code stops the start", async () => {
  const options = await createTestDatabase();
  const migrations = await loadMigrations(
    writeMigrations({ "0001_create_list.ts": create, "0002_add_two.ts": add(2, "export const minimumCode = 2;") }),
  );
  await migrate(options, migrations, createTestLog().log);
  const older = migrate(options, migrations.slice(0, 1), createTestLog().log);
  await expect(older).rejects.toThrow(StartError);
  await expect(older).rejects.toThrow("the database needs code that knows migration 2; this knows 1");
});

test("a migration that fails leaves nothing of itself, and is tried again at the next start", async () => {
  const options = await createTestDatabase();
  const broken = `export const up = async (db) => { await db.insertInto("list").values({ n: 2 }).execute(); throw new Error("broken"); };`;
  const folder = writeMigrations({ "0001_create_list.ts": create, "0002_add_two.ts": broken });
  await expect(migrate(options, await loadMigrations(folder), createTestLog().log)).rejects.toThrow("broken");
  expect(await listOf(options)).toEqual([]);
  const mended = writeMigrations({ "0001_create_list.ts": create, "0002_add_two.ts": add(2) });
  await migrate(options, await loadMigrations(mended), createTestLog().log);
  expect(await listOf(options)).toEqual([2]);
});

test.each([[["0002_b.ts"]], [["0001_a.ts", "0003_c.ts"]], [["0001_a.ts", "0001_b.ts"]], [["first.ts"]]])(
  "%j are not numbered from 1 without gaps, and refused",
  async (names) => {
    const folder = writeMigrations(Object.fromEntries(names.map((name) => [name, create])));
    await expect(loadMigrations(folder)).rejects.toThrow(StartError);
  },
);

test("a database that is not there yet is waited for", async () => {
  const options = await createTestDatabase();
  const port = await findFreePorts(1);
  const { log, logs } = createTestLog();
  const url = options.url.replace(/@[^/]*\//, `@127.0.0.1:${port}/`);
  const migrated = migrate({ ...options, url }, await loadMigrations(writeMigrations({ "0001_create_list.ts": create })), log);
  await eventually(() =>
    expect(logs).toContainEqual(
      expect.objectContaining({ body: expect.stringMatching(/^the database cannot be reached \(.*\); trying again$/) }),
    ),
  );
  await openPostgresProxy(options.url, port);
  await migrated;
  expect(await listOf(options)).toEqual([]);
});

test("a database that is not made yet is waited for", async () => {
  const options = await createTestDatabase();
  const later = { ...options, url: `${options.url}_later` };
  const name = sql.id(new URL(later.url).pathname.slice(1));
  const { log, logs } = createTestLog();
  const migrated = migrate(later, await loadMigrations(writeMigrations({ "0001_create_list.ts": create })), log);
  const told = expect.stringMatching(/^the database cannot be reached \(database ".*_later" does not exist\); trying again$/);
  await eventually(() => expect(logs).toContainEqual(expect.objectContaining({ body: told })));
  const database = openDatabase(options);
  onTestFinished(() => database.close());
  await sql`CREATE DATABASE ${name}`.execute(database.db);
  onTestFinished(async () => void (await sql`DROP DATABASE ${name} WITH (FORCE)`.execute(database.db)));
  await migrated;
  expect(await listOf(later)).toEqual([]);
});

test("a replica that waits for another's long migration waits as long as it takes", async () => {
  const options = { ...(await createTestDatabase()), statementTimeoutMs: 200 };
  const sleep = "SELECT pg_sleep(0.7)";
  const slow = `export const up = async (db) => {
    await db.executeQuery({ sql: "${sleep}", parameters: [], query: { kind: "RawNode", sqlFragments: ["${sleep}"], parameters: [] } });
    await db.schema.createTable("list").addColumn("n", "integer").execute();
  };`;
  const migrations = await loadMigrations(writeMigrations({ "0001_create_list.ts": slow }));
  await Promise.all([migrate(options, migrations, createTestLog().log), migrate(options, migrations, createTestLog().log)]);
  expect(await listOf(options)).toEqual([]);
});

test("another migration of the same number is told, and so is one that fails, with its name", async () => {
  const options = await createTestDatabase();
  const { log } = createTestLog();
  await migrate(options, await loadMigrations(writeMigrations({ "0001_create_list.ts": create, "0002_add_note.ts": add(1) })), log);
  const other = await loadMigrations(writeMigrations({ "0001_create_list.ts": create, "0002_add_colour.ts": add(2) }));
  await expect(migrate(options, other, log)).rejects.toThrow(
    new StartError(
      "the database has had the migration 0002_add_note, where the code has 0002_add_colour: give the code's another number or, on a laptop, npm run reset",
    ),
  );
  const failing = { "0001_create_list.ts": create, "0002_add_note.ts": add(1), "0003_again.ts": create };
  await expect(migrate(options, await loadMigrations(writeMigrations(failing)), log)).rejects.toThrow(
    'the migration 0003_again failed, and nothing of it was kept: relation "list" already exists',
  );
  await expect(loadMigrations(writeMigrations({ "0001_create_list.ts": "export const change = 1;" }))).rejects.toThrow(
    "exports no function up",
  );
  await expect(loadMigrations(writeMigrations({ "add_list.ts": create }))).rejects.toThrow(
    "its name must begin with the next number, 0001_",
  );
});
