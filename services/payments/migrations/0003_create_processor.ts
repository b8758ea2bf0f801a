import { type Kysely, sql } from "kysely";

/** The record of the simulated processor: nothing of payments looks into it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE SCHEMA processor`.execute(db);
  await sql`CREATE TABLE processor.request (
    key text PRIMARY KEY,
    operation text NOT NULL,
    token text NOT NULL,
    charge_id uuid NOT NULL,
    attempts int NOT NULL DEFAULT 1,
    outcome text
  )`.execute(db);
  await sql`CREATE TABLE processor.charge (
    charge_id uuid PRIMARY KEY,
    token text NOT NULL,
    state text NOT NULL CHECK (state IN ('AUTHORIZED', 'DECLINED', 'CAPTURED', 'VOIDED')),
    amount int8 NOT NULL,
    currency_code text NOT NULL,
    refunded int8 NOT NULL CHECK (refunded BETWEEN 0 AND amount)
  )`.execute(db);
}
