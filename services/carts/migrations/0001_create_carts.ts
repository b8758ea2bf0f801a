import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // Of all carts together, so that an etag never returns, not even to a cart that was deleted.
  await sql`CREATE SEQUENCE cart_revision AS int8`.execute(db);
  await sql`CREATE TABLE cart (
    customer_id text PRIMARY KEY,
    revision int8 NOT NULL DEFAULT nextval('cart_revision'),
    recent_request_ids uuid[] NOT NULL DEFAULT '{}',
    update_time timestamptz NOT NULL DEFAULT now()
  )`.execute(db);
  await sql`CREATE TABLE cart_line (
    customer_id text NOT NULL REFERENCES cart,
    product_id text NOT NULL,
    quantity int NOT NULL CHECK (quantity BETWEEN 1 AND 99),
    price_minor_units int8 NOT NULL,
    currency_code text NOT NULL,
    add_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (customer_id, product_id)
  )`.execute(db);
}
