import { fork } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { expect, onTestFinished, test } from "vitest";
import { StartError } from "../start-error.ts";
import { eventually } from "../testing/eventually.ts";
import { createTestLog } from "../testing/rpc.ts";
import { startEmbeddedPostgres } from "./embedded-postgres.ts";

/** A folder of the test's own, which the server's user may enter, unlike other temporary folders. */
function makeDataDir(mode = 0o755): string {
  const dataDir = mkdtempSync("/var/tmp/parley-test-");
  chmodSync(dataDir, mode);
  onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }));
  return dataDir;
}

async function start(dataDir: string) {
  const { log, logs } = createTestLog();
  const postgres = await startEmbeddedPostgres({ dataDir, maxConnections: 40, log });
  onTestFinished(() => postgres.stop());
  return { postgres, logs };
}

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {}); // the server may be killed meanwhile
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

function serverPid(directory: string): number {
  return Number(readFileSync(join(directory, "data/postmaster.pid"), "utf8").split("\n")[0]);
}

test("a service's role owns its database, and can connect to no other", async () => {
  const { postgres } = await start(makeDataDir());
  const orders = await postgres.ensureDatabase("orders");
  const carts = await postgres.ensureDatabase("carts");
  await query(orders, "CREATE TABLE t (n int)");
  for (const database of ["carts", "postgres", "template1"]) {
    await expect(query(orders.replace(/orders$/, database), "SELECT 1")).rejects.toThrow(`permission denied for database "${database}"`);
  }
  expect(await query(carts, "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user")).toEqual([
    { current_user: "carts", rolsuper: false },
  ]);
});

test("a role needs its password, which is kept for this user alone", async () => {
  const dataDir = makeDataDir();
  const { postgres } = await start(dataDir);
  const url = await postgres.ensureDatabase("orders");
  await expect(query(url.replace(/:[^:@]+@/, ":wrong@"), "SELECT 1")).rejects.toThrow("password authentication failed");
  await expect(query(url.replace(/:[^:@]+@/, "@"), "SELECT 1")).rejects.toThrow();
  expect(statSync(join(dataDir, "passwords.json")).mode & 0o777).toBe(0o600);
});

test.runIf(process.getuid?.() === 0)("where root's folder is closed to the server's user, its files are in /var/tmp", async () => {
  const { postgres } = await start(makeDataDir(0o700));
  onTestFinished(() => rmSync(postgres.directory, { recursive: true }));
  expect(postgres.directory).toMatch(/^\/var\/tmp\/parley-[0-9a-f]{12}$/);
  expect(await query(await postgres.ensureDatabase("orders"), "SELECT 1 AS one")).toEqual([{ one: 1 }]);
});

test("what is acknowledged is on disk", async () => {
  const { postgres } = await start(makeDataDir());
  const url = await postgres.ensureDatabase("orders");
  expect(await query(url, "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') ORDER BY name")).toEqual([
    { name: "fsync", setting: "on" },
    { name: "synchronous_commit", setting: "on" },
  ]);
});

test("a restart keeps data, databases and passwords", async () => {
  const dataDir = makeDataDir();
  const first = await startEmbeddedPostgres({ dataDir, maxConnections: 40, log: createTestLog().log });
  const url = await first.ensureDatabase("orders");
  await query(url, "CREATE TABLE t AS SELECT 7 AS n");
  await first.stop();
  const { postgres } = await start(dataDir);
  expect(await postgres.ensureDatabase("orders")).toBe(url);
  expect(await query(url, "SELECT n FROM t")).toEqual([{ n: 7 }]);
});

test("a second start on the same files is told so, and does the first no harm", async () => {
  const dataDir = makeDataDir();
  const { postgres } = await start(dataDir);
  const url = await postgres.ensureDatabase("orders");
  const second = startEmbeddedPostgres({ dataDir, maxConnections: 40, log: createTestLog().log });
  await expect(second).rejects.toThrow(StartError);
  await expect(second).rejects.toThrow(/another suite uses .* \(process \d+\): stop it, or set PARLEY_DATA_DIR to another folder/);
  expect(await query(url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
});

test("a server that is killed is started again, with all that it had acknowledged", async () => {
  const { postgres, logs } = await start(makeDataDir());
  const url = await postgres.ensureDatabase("orders");
  await query(url, "CREATE TABLE t AS SELECT 7 AS n");
  process.kill(serverPid(postgres.directory), "SIGKILL");
  await eventually(async () => expect(await query(url, "SELECT n FROM t")).toEqual([{ n: 7 }]));
  expect(logs).toContainEqual(expect.objectContaining({ body: "Postgres ended; starting it again", signal: "SIGKILL" }));
});

test("a server ends with the process that started it, however that ends, and the next start recovers", async () => {
  const dataDir = makeDataDir();
  const script = join(mkdtempSync(join(tmpdir(), "parley-test-")), "start.ts");
  onTestFinished(() => rmSync(join(script, ".."), { recursive: true }));
  writeFileSync(
    script,
    `import { startEmbeddedPostgres } from ${JSON.stringify(join(import.meta.dirname, "embedded-postgres.ts"))};
     const postgres = await startEmbeddedPostgres({ dataDir: ${JSON.stringify(dataDir)}, maxConnections: 40, log: console as never });
     process.send?.(await postgres.ensureDatabase("orders"));
     setInterval(() => {}, 1_000);`,
  );
  const child = fork(script, { stdio: "inherit" });
  const [url] = await once(child, "message");
  await query(url, "CREATE TABLE t AS SELECT 7 AS n");
  child.kill("SIGKILL");
  await once(child, "exit");
  // At once: the server that was left behind may not have ended yet.
  const { postgres } = await start(dataDir);
  expect(await query(await postgres.ensureDatabase("orders"), "SELECT n FROM t")).toEqual([{ n: 7 }]);
});

test("data whose passwords are gone is told, and kept", async () => {
  const dataDir = makeDataDir();
  const { directory, stop } = await startEmbeddedPostgres({ dataDir, maxConnections: 40, log: createTestLog().log });
  await stop();
  rmSync(join(dataDir, "passwords.json"));
  await expect(start(dataDir)).rejects.toThrow(
    /^the passwords of the databases in .* are gone with .*: delete the databases by npm run reset/,
  );
  expect(statSync(join(directory, "data")).isDirectory()).toBe(true);
});

test("a process id that a crash left behind, and that is another process's now, is no obstacle", async () => {
  const dataDir = makeDataDir();
  const first = await startEmbeddedPostgres({ dataDir, maxConnections: 40, log: createTestLog().log });
  const pidFile = join(first.directory, "data/postmaster.pid");
  const left = readFileSync(pidFile, "utf8");
  await first.stop();
  writeFileSync(pidFile, left.replace(/^\d+/, String(process.pid)));
  const { postgres } = await start(dataDir);
  expect(await query(await postgres.ensureDatabase("orders"), "SELECT 1 AS one")).toEqual([{ one: 1 }]);
});
