import type { DatabaseOptions } from "../data/database.ts";

/** How tests open a database. */
export function testDatabaseOptions(url: string): DatabaseOptions {
  return {
    url,
    name: "test",
    poolSize: 5,
    connectTimeoutMs: 5_000,
    statementTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 5_000,
  };
}
