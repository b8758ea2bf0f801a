import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // Of all carts together, so that an etag never returns, not even to a cart that was deleted.
  await sql`CREATE SEQUENCE cart_revision AS int8`.execute(db);
  await sql`CREATE TABLE cart (
    customer_id text PRIMARY KEY,
    revision int8 NOT NULL DEFAULT 0,
    update_time timestamptz
  )`.execute(db);
  // The last requests to add, to tell repeats.
  await sql`CREATE TABLE cart_request (
    customer_id text NOT NULL REFERENCES cart,
    request_id uuid NOT NULL,
    product_id text NOT NULL,
    quantity int NOT NULL,
    number int8 GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (customer_id, request_id)
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
