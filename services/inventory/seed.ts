import type { Database } from "@parley/chassis/data/database.ts";
import { sql } from "kysely";
import type { Tables } from "./store.ts";

const batch = 10_000;

/** Adds stock of products of which nothing is known yet. */
export async function seedStock({ db }: Database<Tables>, productIds: readonly string[], onHand: number): Promise<void> {
  for (let first = 0; first < productIds.length; first += batch) {
    const some = productIds.slice(first, first + batch);
    await sql`INSERT INTO stock (product_id, on_hand) SELECT product_id, ${onHand} FROM unnest(${some}::text[]) AS product_id
      ON CONFLICT DO NOTHING`.execute(db);
  }
}
