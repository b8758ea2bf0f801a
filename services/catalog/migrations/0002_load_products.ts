import type { Kysely } from "kysely";
import products from "../products.json" with { type: "json" };

/** A shop that was just started has something on its shelves. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const rows = products.map((product) => ({ ...product, currency_code: "EUR" }));
  await db.withTables<{ product: (typeof rows)[number] }>().insertInto("product").values(rows).execute();
}
