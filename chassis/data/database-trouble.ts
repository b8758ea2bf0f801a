import { setTimeout as delay } from "node:timers/promises";
import { sql } from "kysely";
import type { AnyDatabase } from "./database.ts";

/** How long a database may take for next to nothing, in milliseconds. */
const patienceMs = 1_000;

/** Asks a database for next to nothing; returns what is wrong where it does not answer in a second, or not at all. */
export async function findDatabaseTrouble({ db }: AnyDatabase): Promise<string | undefined> {
  const enough = new AbortController();
  const asked = sql`SELECT 1`.execute(db).then(
    () => undefined,
    () => "its database cannot be reached",
  );
  const late = delay(patienceMs, "its database does not answer, or all connections to it are in use", { signal: enough.signal });
  const trouble = await Promise.race([asked, late.catch(() => undefined)]);
  enough.abort();
  return trouble;
}
