import { addOriginColumns } from "@parley/chassis/data/origin.ts";
import type { QueryExecutorProvider } from "kysely";

export async function up(db: QueryExecutorProvider): Promise<void> {
  await addOriginColumns(db, "notification");
  await addOriginColumns(db, "event_cursor");
}
