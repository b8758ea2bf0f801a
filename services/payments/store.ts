import { createHash } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { origin } from "@parley/chassis/data/origin.ts";
import { historyEntry } from "@parley/chassis/data/state-changes.ts";
import { type Claim, done, type WorkColumns } from "@parley/chassis/data/work.ts";
import type { PageQuery } from "@parley/chassis/rpc/page.ts";
import { type Account, DeclineReason, type PaymentSchema, PaymentState } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { type ColumnType, type Generated, type GeneratedAlways, type Kysely, type Selectable, sql } from "kysely";
import type { Operation, Progress, Refund } from "./payment.ts";
import type { Money } from "./processor.ts";

/** When the service asks by itself for an outcome that is not known, where no caller has. */
const askAgainTime = sql<Date>`now() + interval '10 seconds'`;

export type AccountName = Exclude<keyof typeof Account, "UNSPECIFIED">;

export interface Tables {
  payment: PaymentTable;
  refund: { payment_id: string; refund_id: string; requested: bigint | null; amount: bigint; is_done: boolean };
  ledger_movement: { movement_id: string; payment_id: string; refund_id: string | null; currency_code: string };
  ledger_entry: { movement_id: string; account: AccountName; currency_code: string; amount: bigint };
}

interface PaymentTable extends WorkColumns {
  payment_id: string;
  number: GeneratedAlways<bigint>;
  request_hash: string | null;
  order_id: string | null;
  customer_id: string | null;
  amount: bigint | null;
  currency_code: string | null;
  payment_token: string | null;
  charge_id: Generated<string | null>;
  state: ColumnType<keyof typeof PaymentState, string, string>;
  asked: Operation | null;
  decline_reason: ColumnType<keyof typeof DeclineReason | null, string | undefined, string>;
  refunded: Generated<bigint>;
  history: ColumnType<{ state: keyof typeof PaymentState; time: string }[], string, string>;
}

/** What a payment is for. */
export interface PaymentRequest {
  readonly paymentId: string;
  readonly orderId: string;
  readonly customerId: string;
  readonly amount: Money;
  readonly paymentToken: string;
}

/** A payment with what the processor needs of it. */
export interface StoredPayment {
  readonly message: MessageInitShape<typeof PaymentSchema> & { paymentId: string };
  readonly number: bigint;
  readonly progress: Progress;
  /** Undefined where it was voided before it was seen. */
  readonly requestHash: string | undefined;
  readonly amount: Money | undefined;
  /** Undefined once the processor has answered. */
  readonly token: string | undefined;
  /** Undefined until the processor has answered. */
  readonly chargeId: string | undefined;
}

/** What the processor knows a payment by, and why it declined it. */
export interface Charge {
  readonly chargeId: string;
  readonly reason?: DeclineReason;
}

/** The payments in their database, or in one of its transactions. */
export interface Store {
  /** Adds a payment, without a request as a tombstone; returns undefined where there is one of this id. */
  insert(paymentId: string, progress: Progress, request?: PaymentRequest): Promise<StoredPayment | undefined>;
  find(paymentId: string): Promise<StoredPayment | undefined>;
  /** Returns the payment, which changes for nobody else until the transaction ends. */
  lock(paymentId: string): Promise<StoredPayment | undefined>;
  /** Lists payments by falling numbers, of a customer and for an order where they are given. */
  list(query: PageQuery & { customerId: string | undefined; orderId: string }): Promise<StoredPayment[]>;
  /** Saves how far a payment is. Where the processor is being asked, the payment is due, for the answer may never come. */
  save(payment: StoredPayment, progress: Progress, charge?: Charge): Promise<StoredPayment>;
  listRefunds(paymentId: string): Promise<Refund[]>;
  /** Adds a refund for which the processor is about to be asked. */
  saveRefund(paymentId: string, refund: Refund): Promise<void>;
  /** Marks a refund as done; returns false where it was before. */
  endRefund(paymentId: string, refundId: string): Promise<boolean>;
  /** Adds to what was given back of a payment, which thereby comes to a state. */
  addRefunded(paymentId: string, amount: bigint, state: PaymentState): Promise<StoredPayment>;
  /** Ends the work on a payment, which is locked, unless the processor is being asked. */
  endWork(lease: Claim): Promise<void>;
}

export function createStore(db: Kysely<Tables>): Store {
  /** What is left of the columns of work: a refund may still be open. */
  const doneOrDue = {
    ...done,
    due_at: sql<Date | null>`CASE WHEN EXISTS (SELECT FROM refund WHERE refund.payment_id = payment.payment_id AND NOT is_done)
      THEN ${askAgainTime} END`,
  };
  const withState = (state: PaymentState) => ({
    state: PaymentState[state],
    history: sql<string>`CASE state WHEN ${PaymentState[state]} THEN history ELSE history || ${historyEntry(PaymentState[state])} END`,
  });

  return {
    async insert(paymentId, { state, asked }, request) {
      const row = await db
        .insertInto("payment")
        .values({
          payment_id: paymentId,
          state: PaymentState[state],
          asked: asked ?? null,
          history: sql`jsonb_build_array(${historyEntry(PaymentState[state])})`,
          due_at: asked === undefined ? null : askAgainTime,
          ...origin(),
          ...(request && {
            request_hash: hashOf(request),
            order_id: request.orderId,
            customer_id: request.customerId,
            amount: request.amount.minorUnits,
            currency_code: request.amount.currencyCode,
            payment_token: request.paymentToken,
          }),
        })
        .onConflict((conflict) => conflict.column("payment_id").doNothing())
        .returningAll()
        .executeTakeFirst();
      return row && paymentOf(row);
    },

    async find(paymentId) {
      const row = await db.selectFrom("payment").selectAll().where("payment_id", "=", paymentId).executeTakeFirst();
      return row && paymentOf(row);
    },

    async lock(paymentId) {
      const row = await db.selectFrom("payment").selectAll().where("payment_id", "=", paymentId).forUpdate().executeTakeFirst();
      return row && paymentOf(row);
    },

    async list({ before, limit, customerId, orderId }) {
      let query = db.selectFrom("payment").selectAll().orderBy("number", "desc").limit(limit);
      if (before !== undefined) query = query.where("number", "<", before);
      if (customerId !== undefined) query = query.where("customer_id", "=", customerId);
      if (orderId !== "") query = query.where("order_id", "=", orderId);
      return (await query.execute()).map(paymentOf);
    },

    async save({ message: { paymentId } }, { state, asked }, charge) {
      const row = await db
        .updateTable("payment")
        .set({
          ...withState(state),
          asked: asked ?? null,
          ...(asked === undefined ? doneOrDue : { due_at: askAgainTime }),
          // The token is kept no longer than it is needed.
          ...(charge && { charge_id: charge.chargeId, payment_token: null }),
          ...(charge?.reason !== undefined && { decline_reason: DeclineReason[charge.reason] }),
        })
        .where("payment_id", "=", paymentId)
        .returningAll()
        .executeTakeFirstOrThrow();
      return paymentOf(row);
    },

    async listRefunds(paymentId) {
      const rows = await db.selectFrom("refund").selectAll().where("payment_id", "=", paymentId).execute();
      return rows.map((row) => ({
        refundId: row.refund_id,
        requested: row.requested ?? undefined,
        amount: row.amount,
        isDone: row.is_done,
      }));
    },

    async saveRefund(paymentId, { refundId, requested, amount, isDone }) {
      await db
        .insertInto("refund")
        .values({ payment_id: paymentId, refund_id: refundId, requested: requested ?? null, amount, is_done: isDone })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      await db.updateTable("payment").set({ due_at: askAgainTime }).where("payment_id", "=", paymentId).execute();
    },

    async endRefund(paymentId, refundId) {
      const { numUpdatedRows } = await db
        .updateTable("refund")
        .set({ is_done: true })
        .where("payment_id", "=", paymentId)
        .where("refund_id", "=", refundId)
        .where("is_done", "=", false)
        .executeTakeFirst();
      return numUpdatedRows === 1n;
    },

    async addRefunded(paymentId, amount, state) {
      const row = await db
        .updateTable("payment")
        .set({ ...withState(state), refunded: sql`refunded + ${amount}`, ...doneOrDue })
        .where("payment_id", "=", paymentId)
        .returningAll()
        .executeTakeFirstOrThrow();
      return paymentOf(row);
    },

    async endWork({ key, attempt }) {
      await db
        .updateTable("payment")
        .set(doneOrDue)
        .where("payment_id", "=", key)
        .where("attempt", "=", attempt)
        .where("asked", "is", null)
        .execute();
    },
  };
}

/** Tells contents apart without keeping the token. */
export function hashOf({ orderId, customerId, amount, paymentToken }: PaymentRequest): string {
  const contents = JSON.stringify([orderId, customerId, amount.currencyCode, String(amount.minorUnits), paymentToken]);
  return createHash("sha256").update(contents).digest("hex");
}

function paymentOf(row: Selectable<PaymentTable>): StoredPayment {
  const amount =
    row.amount === null || row.currency_code === null ? undefined : { currencyCode: row.currency_code, minorUnits: row.amount };
  const state = PaymentState[row.state];
  return {
    message: {
      paymentId: row.payment_id,
      orderId: row.order_id ?? "",
      customerId: row.customer_id ?? "",
      state,
      declineReason: row.decline_reason === null ? DeclineReason.UNSPECIFIED : DeclineReason[row.decline_reason],
      history: row.history.map((change) => ({ state: PaymentState[change.state], time: timestampFromDate(new Date(change.time)) })),
      ...(amount && { amount, refunded: { ...amount, minorUnits: row.refunded } }),
    },
    number: row.number,
    progress: { state, asked: row.asked ?? undefined },
    requestHash: row.request_hash ?? undefined,
    amount,
    token: row.payment_token ?? undefined,
    chargeId: row.charge_id ?? undefined,
  };
}
