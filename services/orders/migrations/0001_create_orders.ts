import { setStateChanges } from "@parley/chassis/data/state-changes.ts";
import { addWorkColumns } from "@parley/chassis/data/work.ts";
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE TABLE customer_order (
    order_id uuid PRIMARY KEY,
    number int8 GENERATED ALWAYS AS IDENTITY UNIQUE,
    customer_id text NOT NULL,
    request_id uuid NOT NULL,
    request_hash text NOT NULL,
    cart_etag text NOT NULL,
    state text NOT NULL,
    reject_reason text,
    lines jsonb NOT NULL,
    total int8 NOT NULL CHECK (total > 0),
    currency_code text NOT NULL,
    shipping_address jsonb NOT NULL,
    payment_token text,
    history jsonb NOT NULL,
    place_time timestamptz NOT NULL DEFAULT now(),
    confirm_time timestamptz,
    cancel_time timestamptz,
    CONSTRAINT order_once_per_request UNIQUE (customer_id, request_id)
  )`.execute(db);
  // One order of a cart, not counting those that came to nothing.
  await sql`CREATE UNIQUE INDEX order_once_per_cart ON customer_order (customer_id, cart_etag)
    WHERE state <> 'REJECTED' AND (state <> 'CANCELLED' OR confirm_time IS NOT NULL)`.execute(db);
  await sql`CREATE INDEX customer_order_by_customer ON customer_order (customer_id, number)`.execute(db);
  await setStateChanges(db, "customer_order", {
    PENDING: ["CONFIRMED", "REJECTING", "CANCELLING"],
    CONFIRMED: ["SHIPPED", "CANCELLING"],
    REJECTING: ["REJECTED"],
    CANCELLING: ["CANCELLED"],
    SHIPPED: [],
    REJECTED: [],
    CANCELLED: [],
  });
  await addWorkColumns(db, "customer_order");
}
