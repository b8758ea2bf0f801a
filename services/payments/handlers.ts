import type { ServiceImpl } from "@connectrpc/connect";
import { findOwner } from "@parley/chassis/auth/caller.ts";
import type { Database } from "@parley/chassis/data/database.ts";
import { loadPage } from "@parley/chassis/rpc/page.ts";
import { DeclineReason, ErrorReason, type PaymentsService } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { fail } from "./errors.ts";
import { createLedger } from "./ledger.ts";
import type { OperationResult, Operations } from "./operations.ts";
import type { Answer } from "./payment.ts";
import { createStore, type StoredPayment, type Tables } from "./store.ts";

export function createHandlers({
  database,
  operations,
}: {
  readonly database: Database<Tables>;
  readonly operations: Operations;
}): ServiceImpl<typeof PaymentsService> {
  const store = createStore(database.db);
  return {
    async authorize({ amount, ...given }) {
      if (amount === undefined) throw new Error("validation lets no request without an amount through");
      return { payment: assertDone(await operations.authorize({ ...given, amount }), given.paymentId) };
    },

    async capture({ paymentId }) {
      return { payment: assertDone(await operations.capture(paymentId), paymentId) };
    },

    async void({ paymentId }) {
      return { payment: assertDone(await operations.void(paymentId), paymentId) };
    },

    async refund({ paymentId, refundId, amount }) {
      const { answer, payment } = await operations.refund(paymentId, { refundId, requested: amount });
      if (payment === undefined) throw notFound(paymentId);
      if (answer === "mismatch") throw mismatch(refundId);
      if (answer === "exceeds")
        throw fail(
          ErrorReason.REFUND_EXCEEDS_PAYMENT,
          "less than that is left of the payment, or it is in another currency: get it, and refund what is left",
          {
            paymentId,
          },
        );
      return { payment: payment.message };
    },

    async getPayment({ paymentId }, context) {
      const owner = findOwner(context);
      const payment = await store.find(paymentId);
      if (payment === undefined || (owner !== undefined && payment.message.customerId !== owner)) throw notFound(paymentId);
      return { payment: payment.message };
    },

    async listPayments({ orderId, ...page }, context) {
      const customerId = findOwner(context);
      const { rows, nextPageToken } = await loadPage(`payments ${orderId}`, page, (query) => store.list({ ...query, customerId, orderId }));
      return { payments: rows.map(({ message }) => message), nextPageToken };
    },

    getBalances: async () => ({ balances: await createLedger(database.db).listBalances() }),
  };
}

/** Returns the payment of a call that was done. Throws the reason for which it was not. */
function assertDone({ answer, payment }: OperationResult<Answer | "mismatch">, paymentId: string): StoredPayment["message"] {
  if (payment === undefined) throw notFound(paymentId);
  switch (answer) {
    case "done":
      return payment.message;
    case "declined": {
      const declineReason = DeclineReason[payment.message.declineReason ?? DeclineReason.GENERIC];
      throw fail(ErrorReason.PAYMENT_DECLINED, `the payment was declined (${declineReason}): pay in another way`, {
        paymentId,
        declineReason,
      });
    }
    case "voided":
      throw fail(ErrorReason.PAYMENT_VOIDED, "the payment was given up, and takes no money any more", { paymentId });
    case "captured":
      throw fail(ErrorReason.PAYMENT_CAPTURED, "the money was taken: refund it", { paymentId });
    case "not authorized":
      throw fail(ErrorReason.PAYMENT_NOT_AUTHORIZED, "the payment is not authorized yet: authorize it first", { paymentId });
    case "not found":
      throw notFound(paymentId);
    case "mismatch":
      throw mismatch(paymentId);
  }
}

function notFound(paymentId: string): Error {
  return fail(ErrorReason.PAYMENT_NOT_FOUND, `there is no payment ${paymentId}`, { paymentId });
}

function mismatch(id: string): Error {
  return fail(ErrorReason.REQUEST_MISMATCH, `${id} was used with other contents before: choose another id`, { id });
}
