import { execFile } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { expect, test } from "vitest";
import { makeDataDir } from "../testing/data-dir.ts";
import { findFreePorts } from "../testing/ports.ts";
import { createTestLog } from "../testing/rpc.ts";
import { startEmbeddedPostgres } from "./embedded-postgres.ts";

/** The promise has the child process, too. */
const run = (env: NodeJS.ProcessEnv) => promisify(execFile)(process.execPath, [join(import.meta.dirname, "create-databases.ts")], { env });

test("each service gets a database of its own, once the server is there; run again, roles have the passwords of now", async () => {
  const port = await findFreePorts(1);
  const dataDir = makeDataDir();
  const settings = ["listen_addresses=127.0.0.1"];
  const urlOf = (name: string, password: string): string => `postgres://${name}:${password}@127.0.0.1:${port}/${name}`;
  const before = await startEmbeddedPostgres({ dataDir, maxConnections: 20, port, settings, log: createTestLog().log });
  const superuser = new URL(before.superuserUrl);
  const adminUrl = urlOf("postgres", superuser.password);
  await before.stop();

  const made = run({
    PARLEY_POSTGRES_URL: adminUrl,
    PARLEY_ORDERS_DATABASE_URL: urlOf("orders", "a%2Fb"),
    PARLEY_CARTS_DATABASE_URL: urlOf("carts", "c"),
  });
  const [waiting] = await once(made.child.stdout!, "data");
  expect(String(waiting)).toMatch(/^waiting for Postgres: .*ECONNREFUSED/);
  const postgres = await startEmbeddedPostgres({ dataDir, maxConnections: 20, port, settings, log: createTestLog().log });
  try {
    expect((await made).stdout).toMatch(/\norders has its database\ncarts has its database\n$/);
    const connect = async (url: string): Promise<void> => {
      const client = new Client({ connectionString: url });
      await client.connect();
      await client.end();
    };
    await connect(urlOf("orders", "a%2Fb"));
    await expect(connect(urlOf("orders", "a%2Fb").replace(/orders$/, "carts"))).rejects.toThrow(/permission denied for database/);
    await run({ PARLEY_POSTGRES_URL: adminUrl, PARLEY_ORDERS_DATABASE_URL: urlOf("orders", "new") });
    await connect(urlOf("orders", "new"));
    await expect(connect(urlOf("orders", "a%2Fb"))).rejects.toThrow(/password authentication failed/);
  } finally {
    await postgres.stop();
  }
});

test.each([
  "postgres://orders:secret@127.0.0.1/shop",
  "postgres://postgres:secret@127.0.0.1/postgres",
  "postgres://or%ders:secret@127.0.0.1/or%ders",
  "secret",
])("a URL that names no role with a database of its own is told, without its password: %s", async (url) => {
  const wrong = run({ PARLEY_POSTGRES_URL: "postgres://x@127.0.0.1/", PARLEY_ORDERS_DATABASE_URL: url });
  const { stderr } = await wrong.catch((error: unknown) => error as { stderr: string });
  expect(stderr).toBe("PARLEY_ORDERS_DATABASE_URL: its value is wrong; expected a URL such as postgres://orders:password@host/orders\n");
});
