import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { pino } from "pino";
import { inject, onTestFinished } from "vitest";
import type { Database, DatabaseDefinition, DatabaseOptions } from "../data/database.ts";
import { loadMigrations, migrate } from "../data/migrations.ts";
import { testDatabaseOptions } from "./database-options.ts";

/** The database with the newest schema of each folder of migrations, from which those of the tests are copied. */
const templates = new Map<string, Promise<string>>();

/** A service's database for one test, at the newest schema; it is gone with the test. */
export async function openTestDatabase<Schema>(definition: DatabaseDefinition<Schema>): Promise<Database<Schema>> {
  const { href } = definition.migrations;
  const template = templates.get(href) ?? createTemplate(definition.migrations);
  templates.set(href, template);
  const database = definition.open(await createTestDatabase(await template));
  onTestFinished(() => database.close());
  return database;
}

/** A database of a test's own, empty or a copy of a template; it is gone with the test. */
export async function createTestDatabase(template = "template0"): Promise<DatabaseOptions> {
  const name = await createDatabase(template);
  onTestFinished(() => runAsSuperuser(`DROP DATABASE ${name} WITH (FORCE)`));
  return optionsOf(name);
}

async function createTemplate(migrations: URL): Promise<string> {
  const name = await createDatabase("template0");
  await migrate(optionsOf(name), await loadMigrations(migrations), pino({ level: "silent" }));
  return name;
}

async function createDatabase(template: string): Promise<string> {
  const name = `test_${randomBytes(6).toString("hex")}`;
  await runAsSuperuser(`CREATE DATABASE ${name} TEMPLATE ${template}`);
  return name;
}

function optionsOf(name: string): DatabaseOptions {
  return testDatabaseOptions(inject("postgresUrl").replace(/[^/]*$/, name));
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
