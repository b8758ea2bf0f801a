import type { Kysely } from "kysely";
import stock from "../stock.json" with { type: "json" };

/** A shop that was just started has something on its shelves. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.withTables<{ stock: (typeof stock)[number] }>().insertInto("stock").values(stock).execute();
}
