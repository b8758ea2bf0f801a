/** All that is known when a run is over: what clients were told, and what each database says. Amounts are in minor units. */
export interface Snapshot {
  readonly told: readonly Told[];
  readonly orders: readonly OrderRow[];
  readonly stock: readonly { readonly productId: string; readonly putIn: number; readonly onHand: number; readonly reserved: number }[];
  readonly reservations: readonly {
    readonly reservationId: string;
    readonly state: string;
    readonly lines: readonly { readonly productId: string; readonly quantity: number }[];
  }[];
  readonly payments: readonly {
    readonly paymentId: string;
    readonly orderId: string | null;
    readonly state: string;
    readonly chargeId: string | null;
  }[];
  /** The processor's own record. */
  readonly charges: readonly { readonly chargeId: string; readonly state: string; readonly amount: number; readonly refunded: number }[];
  readonly ledger: readonly { readonly account: string; readonly currencyCode: string; readonly amount: number }[];
  readonly events: readonly { readonly position: number; readonly eventId: string; readonly type: string; readonly orderId: string }[];
  readonly notifications: readonly { readonly notificationId: string; readonly orderId: string }[];
  readonly carts: readonly { readonly customerId: string; readonly expected: Quantities; readonly found: Quantities }[];
  readonly cursors: readonly { readonly consumer: string; readonly position: number; readonly setAside: number }[];
}

/** What clients were told of one request to place an order. */
export interface Told {
  readonly customerId: string;
  readonly requestId: string;
  /** Each order that an answer named. */
  readonly orderIds: readonly string[];
}

export interface OrderRow {
  readonly orderId: string;
  readonly customerId: string;
  readonly requestId: string;
  readonly state: string;
  readonly total: number;
  /** The states that it came through. */
  readonly history: readonly string[];
}

export type Quantities = Readonly<Record<string, number>>;

/** Returns what is wrong, a line each. */
export type Check = (snapshot: Snapshot) => string[];

const ends = ["CONFIRMED", "SHIPPED", "REJECTED", "CANCELLED"];

export const checks = {
  "every order that a client was told of exists, one for each request": ({ told, orders }) => {
    const known = new Map(orders.map((order) => [order.orderId, order]));
    const byRequest = Map.groupBy(orders, ({ customerId, requestId }) => `${customerId} ${requestId}`);
    return [
      ...told.flatMap(({ customerId, requestId, orderIds }) =>
        [...new Set(orderIds)].flatMap((orderId) => {
          const order = known.get(orderId);
          if (order === undefined) return [`${orderId} was told to ${customerId}, and does not exist`];
          return order.requestId === requestId ? [] : [`${orderId} was told for request ${requestId}, and is that of ${order.requestId}`];
        }),
      ),
      ...told
        .filter(({ orderIds }) => new Set(orderIds).size > 1)
        .map(({ requestId, orderIds }) => `${requestId} made ${orderIds.join(", ")}`),
      ...[...byRequest].filter(([, some]) => some.length > 1).map(([request, some]) => `request ${request} made ${some.length} orders`),
    ];
  },

  "every order is final": ({ orders }) =>
    orders.filter(({ state }) => !ends.includes(state)).map(({ orderId, state }) => `${orderId} is still ${state}`),

  "stock is where it was put: on hand, or committed": ({ stock, reservations }) => {
    const sumOf = (state: string, productId: string): number =>
      reservations
        .filter((reservation) => reservation.state === state)
        .flatMap(({ lines }) => lines)
        .reduce((sum, line) => sum + (line.productId === productId ? line.quantity : 0), 0);
    return [
      ...reservations.filter(({ state }) => state === "HELD").map(({ reservationId }) => `${reservationId} is still held`),
      ...stock.flatMap(({ productId, putIn, onHand, reserved }) => {
        const committed = sumOf("COMMITTED", productId);
        const wrong = onHand < 0 || reserved !== sumOf("HELD", productId) || onHand + committed !== putIn;
        return wrong ? [`${productId}: ${putIn} put in, ${onHand} on hand, ${reserved} reserved, ${committed} committed`] : [];
      }),
    ];
  },

  "stock and orders agree": ({ orders, reservations }) => {
    const states = new Map(reservations.map(({ reservationId, state }) => [reservationId, state]));
    return orders
      .filter(({ orderId, state }) => isPaidFor(state) !== (states.get(orderId) === "COMMITTED"))
      .map(({ orderId, state }) => `${orderId} is ${state}, its reservation ${states.get(orderId)}`);
  },

  "a confirmed order was captured once, any other has nothing captured or kept": ({ orders, payments, charges }) => {
    const byId = new Map(charges.map((charge) => [charge.chargeId, charge]));
    const byOrder = Map.groupBy(payments, ({ orderId }) => orderId ?? "");
    const known = new Set(payments.map(({ chargeId }) => chargeId));
    return [
      ...charges
        .filter(({ chargeId }) => !known.has(chargeId))
        .map(({ chargeId, state }) => `payments knows nothing of charge ${chargeId}, ${state}`),
      ...orders.flatMap(({ orderId, state, total }) => {
        const charged = (byOrder.get(orderId) ?? []).flatMap(({ chargeId }) => byId.get(chargeId ?? "") ?? []);
        const kept = charged.filter((charge) => charge.state === "AUTHORIZED");
        const taken = charged.filter((charge) => charge.state === "CAPTURED").map(({ amount, refunded }) => amount - refunded);
        const expected = isPaidFor(state) ? [total] : [];
        const isRight = kept.length === 0 && String(taken.filter((amount) => amount !== 0)) === String(expected);
        return isRight ? [] : [`${orderId} is ${state} over ${total}, with ${taken.join(" + ") || 0} taken and ${kept.length} kept`];
      }),
    ];
  },

  "payments say what the processor says": ({ payments, charges }) => {
    const byId = new Map(charges.map((charge) => [charge.chargeId, charge]));
    return payments.flatMap(({ paymentId, state, chargeId }) => {
      const charge = byId.get(chargeId ?? "");
      const left = charge && charge.amount - charge.refunded;
      const atProcessor =
        charge?.state === "CAPTURED"
          ? left === 0
            ? "REFUNDED"
            : left === charge.amount
              ? "CAPTURED"
              : "PARTIALLY_REFUNDED"
          : charge?.state;
      return state === (atProcessor ?? "VOIDED") ? [] : [`${paymentId} is ${state}, at the processor ${atProcessor}`];
    });
  },

  "the ledger balances, and agrees with the processor": ({ ledger, charges }) => {
    const sum = (amounts: readonly number[]): number => amounts.reduce((total, amount) => total + amount, 0);
    const taken = sum(charges.filter(({ state }) => state === "CAPTURED").map(({ amount, refunded }) => amount - refunded));
    const inLedger = sum(ledger.filter(({ account }) => account === "PROCESSOR").map(({ amount }) => amount)); // the shop has one currency
    const rests = [...Map.groupBy(ledger, ({ currencyCode }) => currencyCode)].map(
      ([currency, entries]) => [currency, sum(entries.map(({ amount }) => amount))] as const,
    );
    return [
      ...rests.flatMap(([currency, rest]) => (rest === 0 ? [] : [`the ledger in ${currency} adds up to ${rest}`])),
      ...(inLedger === taken ? [] : [`the ledger says ${inLedger}, the processor ${taken}`]),
    ];
  },

  "one notification for each event that is told": ({ events, notifications }) => {
    const expected = events.filter(({ type }) => type !== "OrderPlaced").map(({ eventId }) => eventId);
    const found = notifications.map(({ notificationId }) => notificationId);
    return [
      ...expected
        .filter((eventId) => found.filter((id) => id === eventId).length !== 1)
        .map((eventId) => `event ${eventId} was not told once`),
      ...found.filter((id) => !expected.includes(id)).map((id) => `notification ${id} tells no event`),
    ];
  },

  "carts were emptied of what was ordered, and of nothing else": ({ carts }) =>
    carts
      .filter(({ expected, found }) => textOf(expected) !== textOf(found))
      .map(({ customerId, expected, found }) => `the cart of ${customerId} has ${textOf(found)} instead of ${textOf(expected)}`),

  "events are legal, in order, and say what the orders say": ({ events, orders }) => {
    const byOrder = Map.groupBy(events, ({ orderId }) => orderId);
    return [
      ...events.filter(({ position }, index) => position !== index + 1).map(({ position }) => `position ${position} is out of order`),
      ...orders.flatMap(({ orderId, history }) => {
        const told = (byOrder.get(orderId) ?? []).map(({ type }) => type);
        const expected = history.flatMap((state) => eventOf[state] ?? []);
        return String(told) === String(expected)
          ? []
          : [`${orderId} came through ${history.join(", ")}, but told ${told.join(", ") || "nothing"}`];
      }),
      ...orders.filter(({ history }) => !isLegal(history)).map(({ orderId, history }) => `${orderId} came through ${history.join(", ")}`),
      ...orders
        .filter(({ state, history }) => history.at(-1) !== state)
        .map(({ orderId, state }) => `${orderId} is ${state}, which it never came to`),
    ];
  },

  "consumers have read all": ({ cursors, events }) =>
    cursors
      .filter(({ position, setAside }) => position !== events.length || setAside > 0)
      .map(({ consumer, position, setAside }) => `${consumer} is at ${position} of ${events.length}, with ${setAside} set aside`),
} satisfies Record<string, Check>;

const eventOf: Readonly<Record<string, string>> = {
  PENDING: "OrderPlaced",
  CONFIRMED: "OrderConfirmed",
  REJECTED: "OrderRejected",
  CANCELLED: "OrderCancelled",
  SHIPPED: "OrderShipped",
};

/** Written down once more, so that a mistake in the services' table is seen. */
const legal = /^PENDING( REJECTING( REJECTED)?| CANCELLING( CANCELLED)?| CONFIRMED( SHIPPED| CANCELLING( CANCELLED)?)?)?$/;

function isLegal(history: readonly string[]): boolean {
  return legal.test(history.join(" "));
}

function isPaidFor(state: string): boolean {
  return state === "CONFIRMED" || state === "SHIPPED";
}

function textOf(quantities: Quantities): string {
  const lines = Object.entries(quantities).filter(([, quantity]) => quantity !== 0);
  return (
    lines
      .map(([productId, quantity]) => `${quantity} ${productId}`)
      .sort()
      .join(", ") || "nothing"
  );
}
