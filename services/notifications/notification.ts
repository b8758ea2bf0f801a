import { type Order, OrderState, RejectReason } from "@parley/gen/parley/orders/v1/orders_pb.js";

/** What a customer is told. */
export interface Message {
  readonly subject: string;
  readonly body: string;
}

/** Writes what a customer is told of an order that came to its state. */
export function writeMessage(order: Order): Message {
  const formatMoney = moneyFormat(order.total?.currencyCode);
  const total = formatMoney(order.total);
  const [what, text] = textsOf(order, total);
  const lines = order.lines.map(({ quantity, title, price }) => `  ${quantity} x ${title}, ${formatMoney(price)} each`);
  return {
    subject: `Your order ${order.orderId} is ${what}`,
    body: [`Hello ${order.shippingAddress?.name ?? ""},`, "", text, "", ...lines, "", `Total: ${total}`, ""].join("\n"),
  };
}

function textsOf({ state, rejectReason }: Order, total: string): readonly [what: string, text: string] {
  switch (state) {
    case OrderState.CONFIRMED:
      return ["confirmed", `We have received your payment of ${total}, and are packing your order.`];
    case OrderState.REJECTED:
      return ["rejected", `We could not take your order: ${reasonOf(rejectReason)}`];
    case OrderState.CANCELLED:
      return ["cancelled", "Your order is cancelled. What you paid for it goes back to you."];
    case OrderState.SHIPPED:
      return ["shipped", "Your order is on its way to you."];
    default:
      throw new Error(`nobody is told of an order that is ${OrderState[state]}`);
  }
}

function reasonOf(reason: RejectReason): string {
  switch (reason) {
    case RejectReason.OUT_OF_STOCK:
      return "something of it is out of stock. You have not been charged.";
    case RejectReason.PAYMENT_DECLINED:
      return "your payment was declined. You have not been charged.";
    default:
      return "it took us too long. If you were charged, it goes back to you.";
  }
}

/** Returns what formats the amounts of an order, which are all of one currency, in its own number of decimals (ISO 4217). */
function moneyFormat(currency = "XXX"): (money: Order["total"]) => string {
  const format = new Intl.NumberFormat("en", { style: "currency", currency });
  const { maximumFractionDigits = 2 } = format.resolvedOptions();
  return (money) => format.format(Number(money?.minorUnits ?? 0n) / 10 ** maximumFractionDigits);
}
