import { addWorkColumns } from "@parley/chassis/data/work.ts";
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE stock (
    product_id text PRIMARY KEY,
    on_hand int8 NOT NULL,
    reserved int8 NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    CONSTRAINT stock_not_oversold CHECK (on_hand >= reserved)
  )`.execute(db);
  await sql`CREATE TABLE restock (
    request_id uuid PRIMARY KEY,
    product_id text NOT NULL,
    quantity int8 NOT NULL
  )`.execute(db);
  // The lines are by product, and never change. None: it was released before it was seen.
  await sql`CREATE TABLE reservation (
    reservation_id uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('HELD', 'COMMITTED', 'RELEASED', 'EXPIRED', 'REFUSED')),
    product_ids text[] NOT NULL,
    quantities int8[] NOT NULL CHECK (cardinality(quantities) = cardinality(product_ids)),
    short_product_ids text[] NOT NULL DEFAULT '{}',
    expire_time timestamptz
  )`.execute(db);
  await addWorkColumns(db, "reservation");
}
