import { addOriginColumns } from "@parley/chassis/data/origin.ts";
import type { QueryExecutorProvider } from "kysely";

export async function up(db: QueryExecutorProvider): Promise<void> {
  await addOriginColumns(db, "customer_order");
  await addOriginColumns(db, "event_log");
}
