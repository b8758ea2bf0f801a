import type { MessageInitShape } from "@bufbuild/protobuf";
import { createId } from "@parley/chassis/id.ts";
import { Account, type BalanceSchema } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { type Kysely, sql } from "kysely";
import type { Money } from "./processor.ts";
import type { AccountName, Tables } from "./store.ts";

/** Money that moved, for a payment or one of its refunds. */
export interface Movement {
  readonly paymentId: string;
  readonly refundId?: string;
  readonly amount: Money;
  readonly debit: AccountName;
  readonly credit: AccountName;
}

/** A payment whose ledger says something else than its state, in minor units. */
export interface LedgerDifference {
  readonly paymentId: string;
  readonly state: string;
  readonly expected: bigint;
  readonly inLedger: bigint;
}

/** The double-entry ledger in payments' database, or in one of its transactions; the database holds to its rules. */
export interface Ledger {
  /** Writes a movement, as one entry for each of its two accounts; debits count as positive. */
  write(movement: Movement): Promise<void>;
  listBalances(): Promise<MessageInitShape<typeof BalanceSchema>[]>;
  /** Lists, at most 100, payments of which the ledger says something else than they do. It reads all of both. */
  listDifferences(): Promise<LedgerDifference[]>;
}

export function createLedger(db: Kysely<Tables>): Ledger {
  return {
    async write({ paymentId, refundId, amount: { currencyCode, minorUnits }, debit, credit }) {
      const movement = { movement_id: createId(), payment_id: paymentId, refund_id: refundId ?? null, currency_code: currencyCode };
      await db.insertInto("ledger_movement").values(movement).execute();
      const entry = (account: AccountName, amount: bigint) => ({
        movement_id: movement.movement_id,
        account,
        currency_code: currencyCode,
        amount,
      });
      await db
        .insertInto("ledger_entry")
        .values([entry(debit, minorUnits), entry(credit, -minorUnits)])
        .execute();
    },

    async listBalances() {
      const rows = await db
        .selectFrom("ledger_entry")
        .select(["account", "currency_code", sql<bigint>`sum(amount)::int8`.as("minor_units")])
        .groupBy(["account", "currency_code"])
        .orderBy("currency_code")
        .orderBy("account")
        .execute();
      return rows.map((row) => ({
        account: Account[row.account],
        amount: { currencyCode: row.currency_code, minorUnits: row.minor_units },
      }));
    },

    async listDifferences() {
      const { rows } = await sql<LedgerDifference>`
        WITH in_ledger AS (
          SELECT payment_id, currency_code, sum(amount) FILTER (WHERE account = 'PROCESSOR') AS held, sum(amount) AS sum
          FROM ledger_movement JOIN ledger_entry USING (movement_id, currency_code) GROUP BY payment_id, currency_code),
        expected AS (
          SELECT payment_id, currency_code, state,
            CASE WHEN state IN ('CAPTURED', 'PARTIALLY_REFUNDED', 'REFUNDED') THEN amount - refunded ELSE 0 END AS held FROM payment)
        SELECT payment_id AS "paymentId", state, coalesce(expected.held, 0)::int8 AS expected, coalesce(in_ledger.held, 0)::int8 AS "inLedger"
        FROM expected FULL JOIN in_ledger USING (payment_id, currency_code)
        WHERE coalesce(expected.held, 0) <> coalesce(in_ledger.held, 0) OR sum <> 0 LIMIT 100`.execute(db);
      return rows;
    },
  };
}
