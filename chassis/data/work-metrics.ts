import { type RawBuilder, sql } from "kysely";
import { Gauge } from "prom-client";
import { onScrape, perRegistry, type Telemetry } from "../telemetry/telemetry.ts";
import type { AnyDatabase } from "./database.ts";

/** Shows the rows of a table of work by their state, and for how long the oldest that is due has waited, whenever the metrics are read. */
export function watchWork(
  { db }: AnyDatabase,
  { serviceName, registry }: Telemetry,
  { table, isOurs }: { readonly table: string; readonly isOurs: RawBuilder<unknown> },
): void {
  const { rows: rowsOf, oldest } = workMetrics(registry);
  const labels = { service_name: serviceName, table };
  onScrape(registry, async () => {
    const states = await sql<{ leased: bigint; due: bigint; waiting: bigint; failing: bigint; oldest: number | null }>`
      SELECT count(*) FILTER (WHERE leased_until > now()) AS leased,
        count(*) FILTER (WHERE due_at <= now() AND coalesce(leased_until, '-infinity') <= now()) AS due,
        count(*) FILTER (WHERE due_at > now() AND failures = 0 AND coalesce(leased_until, '-infinity') <= now()) AS waiting,
        count(*) FILTER (WHERE due_at > now() AND failures > 0 AND coalesce(leased_until, '-infinity') <= now()) AS failing,
        extract(epoch FROM now() - min(due_at) FILTER (WHERE due_at <= now() AND coalesce(leased_until, '-infinity') <= now()))::float8 AS oldest
      FROM ${sql.table(table)} WHERE due_at IS NOT NULL AND ${isOurs}`
      .execute(db)
      .then(
        ({ rows: [row] }) => row,
        () => undefined, // it is not known
      );
    for (const state of ["leased", "due", "waiting", "failing"] as const)
      rowsOf.set({ ...labels, state }, states === undefined ? Number.NaN : Number(states[state]));
    oldest.set(labels, states === undefined ? Number.NaN : (states.oldest ?? 0));
  });
}

const workMetrics = perRegistry((registers) => ({
  rows: new Gauge({
    name: "parley_work_rows",
    help: "Rows of work: leased to a worker, due, waiting for their time, or to be tried again after a failure.",
    labelNames: ["service_name", "table", "state"],
    registers,
  }),
  oldest: new Gauge({
    name: "parley_work_oldest_due_seconds",
    help: "How long the oldest row that is due, and nobody's, has been so.",
    labelNames: ["service_name", "table"],
    registers,
  }),
}));
