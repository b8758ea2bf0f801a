import { type Order, RejectReason } from "@parley/gen/parley/orders/v1/orders_pb.js";

/** What a customer is told. */
export interface Message {
  readonly subject: string;
  readonly body: string;
}

/** Writes what a customer is told of an order that came to a state. */
export function writeMessage(order: Order, what: "confirmed" | "rejected" | "cancelled" | "shipped"): Message {
  const total = formatMoney(order.total);
  const texts = {
    confirmed: `We have received your payment of ${total}, and are packing your order.`,
    rejected: `We could not take your order: ${reasonOf(order.rejectReason)}. Nothing was charged.`,
    cancelled: "Your order is cancelled. What you paid for it goes back to you.",
    shipped: "Your order is on its way to you.",
  };
  const lines = order.lines.map(({ quantity, title, price }) => `  ${quantity} x ${title}, ${formatMoney(price)} each`);
  return {
    subject: `Your order ${order.orderId} is ${what}`,
    body: [`Hello ${order.shippingAddress?.name ?? ""},`, "", texts[what], "", ...lines, "", `Total: ${total}`, ""].join("\n"),
  };
}

function reasonOf(reason: RejectReason): string {
  switch (reason) {
    case RejectReason.OUT_OF_STOCK:
      return "something of it is out of stock";
    case RejectReason.PAYMENT_DECLINED:
      return "your payment was declined";
    default:
      return "it took us too long";
  }
}

/** Formats an amount in the currency's own number of decimals (ISO 4217). */
function formatMoney(money: Order["total"]): string {
  const { currencyCode: currency = "XXX", minorUnits = 0n } = money ?? {};
  const format = new Intl.NumberFormat("en", { style: "currency", currency });
  return format.format(Number(minorUnits) / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
}
