import { setTimeout as delay } from "node:timers/promises";
import { SpanKind } from "@opentelemetry/api";
import { CompiledQuery } from "kysely";
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
  let isConnected = false;
  const ask = () =>
    db.getExecutor().provideConnection(async (connection) => {
      isConnected = true;
      await connection.executeQuery(CompiledQuery.raw("SELECT 1"));
    });
  const asked = runInBackground(work, ask).then(
    () => undefined,
    () => "its database cannot be reached",
  );
  const late = delay(patienceMs, undefined, { signal: enough.signal }).then(
    () => (isConnected ? "its database does not answer" : "all connections to its database are in use, or none can be made"),
    () => undefined,
  );
  const trouble = await Promise.race([asked, late]);
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
