// Makes the databases of services on a Postgres server, each with a role of its own:
//   node chassis/data/create-databases.ts, with PARLEY_POSTGRES_URL, of a superuser, and the services' PARLEY_<SERVICE>_DATABASE_URL
// It waits for the server, and may run again: roles get the passwords of the URLs.
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { exitOnStartError, StartError } from "../start-error.ts";
import { isDatabaseLost } from "./database-errors.ts";
import { ensureDatabase } from "./ensure-database.ts";

const retryMs = 500;

try {
  const adminUrl = process.env["PARLEY_POSTGRES_URL"];
  if (!adminUrl || !URL.canParse(adminUrl))
    throw new StartError("PARLEY_POSTGRES_URL: is not set, or wrong; expected the URL of a superuser");
  const databases = Object.entries(process.env).flatMap(([variable, url]) =>
    /^PARLEY_.*_DATABASE_URL$/.test(variable) && url ? [databaseOf(variable, url)] : [],
  );
  const client = await connect(adminUrl);
  for (const database of databases) {
    await ensureDatabase(client, database);
    process.stdout.write(`${database.name} has its database\n`);
  }
  await client.end();
} catch (error) {
  exitOnStartError(error);
}

/** A role and its database have one name. Throws StartError where the URL has two, or no password. */
function databaseOf(variable: string, text: string): { name: string; password: string } {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const ofServer = ["", "postgres", "template0", "template1"];
  try {
    const name = decodeURIComponent(url?.username ?? "");
    const password = decodeURIComponent(url?.password ?? "");
    if (!ofServer.includes(name) && password !== "" && url?.pathname === `/${url?.username}`) return { name, password };
  } catch {} // a % that begins no escape
  throw new StartError(`${variable}: its value is wrong; expected a URL such as postgres://orders:password@host/orders`);
}

async function connect(url: string): Promise<Client> {
  for (let told: unknown; ; ) {
    const client = new Client({ connectionString: url });
    try {
      await client.connect();
      return client;
    } catch (error) {
      const why = error instanceof Error ? error.message : error;
      if (!isDatabaseLost(error)) throw new StartError(`PARLEY_POSTGRES_URL: ${why}`);
      if (why !== told) process.stdout.write(`waiting for Postgres: ${why}\n`);
      told = why;
      await delay(retryMs);
    }
  }
}
