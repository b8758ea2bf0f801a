import { setStateChanges } from "@parley/chassis/data/state-changes.ts";
import { addWorkColumns } from "@parley/chassis/data/work.ts";
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // What it is for is NULL where it was voided before it was seen.
  await sql`CREATE TABLE payment (
    payment_id uuid PRIMARY KEY,
    number int8 GENERATED ALWAYS AS IDENTITY UNIQUE,
    request_hash text,
    order_id uuid,
    customer_id text,
    amount int8 CHECK (amount > 0),
    currency_code text,
    payment_token text,
    charge_id text,
    state text NOT NULL,
    asked text CHECK (asked IN ('authorize', 'capture', 'void')),
    decline_reason text,
    refunded int8 NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND amount),
    history jsonb NOT NULL
  )`.execute(db);
  await sql`CREATE INDEX payment_by_customer ON payment (customer_id, number)`.execute(db);
  await sql`CREATE INDEX payment_by_order ON payment (order_id)`.execute(db);
  await setStateChanges(db, "payment", {
    PENDING: ["AUTHORIZED", "DECLINED"],
    AUTHORIZED: ["CAPTURED", "VOIDED"],
    CAPTURED: ["PARTIALLY_REFUNDED", "REFUNDED"],
    PARTIALLY_REFUNDED: ["REFUNDED"],
    VOIDED: [],
    REFUNDED: [],
    DECLINED: [],
  });
  await addWorkColumns(db, "payment");
  await sql`CREATE TABLE refund (
    payment_id uuid NOT NULL REFERENCES payment,
    refund_id uuid NOT NULL,
    requested int8,
    amount int8 NOT NULL CHECK (amount > 0),
    is_done bool NOT NULL DEFAULT false,
    PRIMARY KEY (payment_id, refund_id)
  )`.execute(db);
}
