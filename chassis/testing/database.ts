import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { inject, onTestFinished } from "vitest";
import type { DatabaseOptions } from "../data/database.ts";

/** A database of a test's own, empty or a copy of a template; it is gone with the test. */
export async function createTestDatabase(template = "template0"): Promise<DatabaseOptions> {
  const name = `test_${randomBytes(6).toString("hex")}`;
  await runAsSuperuser(`CREATE DATABASE ${name} TEMPLATE ${template}`);
  onTestFinished(() => runAsSuperuser(`DROP DATABASE ${name} WITH (FORCE)`));
  return {
    url: inject("postgresUrl").replace(/[^/]*$/, name),
    name: "test",
    poolSize: 5,
    connectTimeoutMs: 5_000,
    statementTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 5_000,
  };
}

async function runAsSuperuser(statement: string): Promise<void> {
  const client = new Client({ connectionString: inject("postgresUrl") });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
