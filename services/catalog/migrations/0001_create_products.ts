import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE product (
    product_id text PRIMARY KEY,
    title text NOT NULL,
    description text NOT NULL,
    price_minor_units int8 NOT NULL CHECK (price_minor_units > 0),
    currency_code text NOT NULL,
    categories text[] NOT NULL CHECK (cardinality(categories) BETWEEN 1 AND 10),
    image_path text NOT NULL,
    archived boolean NOT NULL DEFAULT false,
    revision int8 NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now()
  )`.execute(db);
  // The orders of ListProducts, each with the id to tell equals apart.
  await sql`CREATE INDEX product_by_title ON product (title, product_id) WHERE NOT archived`.execute(db);
  await sql`CREATE INDEX product_by_price ON product (price_minor_units, product_id) WHERE NOT archived`.execute(db);
  await sql`CREATE INDEX product_by_category ON product USING gin (categories) WHERE NOT archived`.execute(db);
}
