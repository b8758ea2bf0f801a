import { type Kysely, sql } from "kysely";

/** Double entry: each movement is a set of entries that add up to nothing, and stays as it was written. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // One capture of a payment, and one movement of each of its refunds.
  await sql`CREATE TABLE ledger_movement (
    movement_id uuid PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payment,
    refund_id uuid,
    currency_code text NOT NULL,
    time timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (payment_id, refund_id),
    UNIQUE (movement_id, currency_code),
    FOREIGN KEY (payment_id, refund_id) REFERENCES refund
  )`.execute(db);
  await sql`CREATE TABLE ledger_entry (
    movement_id uuid NOT NULL,
    account text NOT NULL CHECK (account IN ('PROCESSOR', 'SALES', 'REFUNDS')),
    currency_code text NOT NULL,
    amount int8 NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (movement_id, account),
    FOREIGN KEY (movement_id, currency_code) REFERENCES ledger_movement (movement_id, currency_code)
  )`.execute(db);
  await sql`CREATE FUNCTION ledger_is_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NOT EXISTS (SELECT FROM ledger_entry WHERE movement_id = NEW.movement_id)
        OR (SELECT sum(amount) FROM ledger_entry WHERE movement_id = NEW.movement_id) <> 0 THEN
        RAISE EXCEPTION 'movement % is not balanced', NEW.movement_id USING ERRCODE = 'check_violation';
      END IF;
      RETURN NULL;
    END $$`.execute(db);
  await sql`CREATE FUNCTION ledger_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION 'the ledger is never changed: write a movement that undoes it' USING ERRCODE = 'check_violation';
    END $$`.execute(db);
  for (const table of ["ledger_movement", "ledger_entry"]) {
    // At the commit, when all entries are there.
    await sql`CREATE CONSTRAINT TRIGGER balanced AFTER INSERT ON ${sql.table(table)} DEFERRABLE INITIALLY DEFERRED
      FOR EACH ROW EXECUTE FUNCTION ledger_is_balanced()`.execute(db);
    await sql`CREATE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ${sql.table(table)}
      FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_kept()`.execute(db);
  }
}
