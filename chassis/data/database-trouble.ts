import { setTimeout as delay } from "node:timers/promises";
import { SpanKind } from "@opentelemetry/api";
import { sql } from "kysely";
import { Gauge } from "prom-client";
import { runInBackground } from "../rpc/current-call.ts";
import { onScrape, perRegistry, type Telemetry } from "../telemetry/telemetry.ts";
import type { AnyDatabase } from "./database.ts";

/** How long a database may take for next to nothing, in milliseconds. */
const patienceMs = 900;

/** Asks a database for next to nothing; returns what is wrong where it does not answer soon, or not at all. */
export async function findDatabaseTrouble({ db }: AnyDatabase): Promise<string | undefined> {
  const enough = new AbortController();
  // Under a name of its own, so that it does not wait for a connection with others.
  const work = { name: "health", kind: SpanKind.INTERNAL, origin: { requestId: undefined, parent: undefined }, tracer: undefined };
  const asked = runInBackground(work, () => sql`SELECT 1`.execute(db)).then(
    () => undefined,
    () => "its database cannot be reached",
  );
  const late = delay(patienceMs, "its database does not answer, or all connections to it are in use", { signal: enough.signal });
  const trouble = await Promise.race([asked, late.catch(() => undefined)]);
  enough.abort();
  return trouble;
}

/** Shows whether a component can use its database, whenever the metrics are read. */
export function watchDatabase(database: AnyDatabase, { serviceName, registry }: Telemetry): void {
  const up = databaseUp(registry);
  onScrape(registry, async () => up.set({ service_name: serviceName }, (await findDatabaseTrouble(database)) === undefined ? 1 : 0));
}

const databaseUp = perRegistry(
  (registers) =>
    new Gauge({ name: "parley_database_up", help: "Whether a service can use its database.", labelNames: ["service_name"], registers }),
);
