import type { ServiceImpl } from "@connectrpc/connect";
import { findOwner } from "@parley/chassis/auth/caller.ts";
import { loadPage } from "@parley/chassis/rpc/page.ts";
import { DeclineReason, ErrorReason, type PaymentsService } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { fail } from "./errors.ts";
import type { Settled, Settlement } from "./settlement.ts";
import { hashOf, type Store, type StoredPayment } from "./store.ts";

export function createHandlers({ settlement, store }: { settlement: Settlement; store: Store }): ServiceImpl<typeof PaymentsService> {
  return {
    async authorize({ amount, ...given }) {
      if (amount === undefined) throw new Error("validation lets no request without an amount through");
      const request = { ...given, amount };
      const { answer, payment } = await settlement.authorize(request);
      if (payment?.requestHash !== undefined && payment.requestHash !== hashOf(request)) throw mismatch(request.paymentId);
      return { payment: paymentOf({ answer, payment }, request.paymentId) };
    },

    async capture({ paymentId }) {
      return { payment: paymentOf(await settlement.capture(paymentId), paymentId) };
    },

    async void({ paymentId }) {
      return { payment: paymentOf(await settlement.void(paymentId), paymentId) };
    },

    async refund({ paymentId, refundId, amount }) {
      const known = await store.find(paymentId);
      if (amount !== undefined && known?.amount !== undefined && amount.currencyCode !== known.amount.currencyCode)
        throw fail(ErrorReason.REFUND_EXCEEDS_PAYMENT, `the payment is in ${known.amount.currencyCode}`, { paymentId });
      const { answer, payment } = await settlement.refund(paymentId, { refundId, requested: amount?.minorUnits });
      if (payment === undefined) throw notFound(paymentId);
      if (answer === "mismatch") throw mismatch(refundId);
      if (answer === "exceeds")
        throw fail(ErrorReason.REFUND_EXCEEDS_PAYMENT, "less than that is left of the payment: get it, and refund what is left", {
          paymentId,
        });
      return { payment: payment.message };
    },

    async getPayment({ paymentId }, context) {
      const owner = findOwner(context);
      const payment = await store.find(paymentId);
      if (payment === undefined || (owner !== undefined && payment.customerId !== owner)) throw notFound(paymentId);
      return { payment: payment.message };
    },

    async listPayments({ orderId, ...page }, context) {
      const customerId = findOwner(context);
      const { rows, nextPageToken } = await loadPage(
        page,
        (query) => store.list({ ...query, customerId, orderId }),
        () => fail(ErrorReason.INVALID_PAGE_TOKEN, "page_token is not one of this list; begin without it"),
      );
      return { payments: rows.map(({ message }) => message), nextPageToken };
    },

    getBalances: async () => ({ balances: await store.listBalances() }),
  };
}

/** Returns the payment of a call that was done. Throws the reason for which it was not. */
function paymentOf(
  { answer, payment }: Settled<"done" | "declined" | "voided" | "captured" | "not authorized" | "not found">,
  paymentId: string,
): StoredPayment["message"] {
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
  }
}

function notFound(paymentId: string): Error {
  return fail(ErrorReason.PAYMENT_NOT_FOUND, `there is no payment ${paymentId}`, { paymentId });
}

function mismatch(id: string): Error {
  return fail(ErrorReason.REQUEST_MISMATCH, `${id} was used with other contents before: choose another id`, { id });
}
