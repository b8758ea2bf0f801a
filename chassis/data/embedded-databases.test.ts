import { rmSync } from "node:fs";
import { Client } from "pg";
import { expect, onTestFinished, test } from "vitest";
import { makeDataDir } from "../testing/data-dir.ts";
import { createTestLog } from "../testing/rpc.ts";
import { startEmbeddedDatabases } from "./embedded-databases.ts";

test("Postgres takes as many connections as its services and their replicas open, and some more", async () => {
  const dataDir = makeDataDir();
  onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }));
  const names = ["orders", "carts"];
  const components = names.map((name) => ({
    name,
    database: { variable: `PARLEY_${name.toUpperCase()}_DATABASE_URL`, otherConnections: 1, migrate: async () => 0 },
  }));
  const databases = await startEmbeddedDatabases(components, {
    env: { PARLEY_DB_POOL: "7" },
    dataDir,
    log: createTestLog().log,
    replicas: new Map([["orders", 2]]),
  });
  onTestFinished(() => databases.stop());
  const client = new Client({ connectionString: databases.env["PARLEY_ORDERS_DATABASE_URL"] });
  await client.connect();
  onTestFinished(() => client.end());
  const { rows } = await client.query("SHOW max_connections");
  expect(rows).toEqual([{ max_connections: String(3 * (7 + 1) + 20) }]);
});
