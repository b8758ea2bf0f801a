import { expect, test } from "vitest";
import { checks, type Snapshot } from "./checks.ts";

/** A run in which all went well: an order that was confirmed, one that was cancelled after that, and one that was rejected. */
const good: Snapshot = {
  told: [
    { customerId: "alice", requestId: "r1", orderIds: ["o1", "o1"] },
    { customerId: "alice", requestId: "r2", orderIds: [] },
    { customerId: "bob", requestId: "r3", orderIds: ["o3"] },
  ],
  orders: [
    { orderId: "o1", customerId: "alice", requestId: "r1", state: "CONFIRMED", total: 500, history: ["PENDING", "CONFIRMED"] },
    {
      orderId: "o2",
      customerId: "alice",
      requestId: "r2",
      state: "CANCELLED",
      total: 300,
      history: ["PENDING", "CONFIRMED", "CANCELLING", "CANCELLED"],
    },
    { orderId: "o3", customerId: "bob", requestId: "r3", state: "REJECTED", total: 100, history: ["PENDING", "REJECTING", "REJECTED"] },
  ],
  stock: [{ productId: "kite", putIn: 10, onHand: 8, reserved: 0 }],
  reservations: [
    { reservationId: "o1", state: "COMMITTED", lines: [{ productId: "kite", quantity: 2 }] },
    { reservationId: "o2", state: "RELEASED", lines: [{ productId: "kite", quantity: 3 }] },
    { reservationId: "o3", state: "REFUSED", lines: [{ productId: "kite", quantity: 99 }] },
  ],
  payments: [
    { paymentId: "o1", orderId: "o1", state: "CAPTURED", chargeId: "c1" },
    { paymentId: "o2", orderId: "o2", state: "REFUNDED", chargeId: "c2" },
    { paymentId: "o3", orderId: null, state: "VOIDED", chargeId: null },
  ],
  charges: [
    { chargeId: "c1", state: "CAPTURED", amount: 500, refunded: 0 },
    { chargeId: "c2", state: "CAPTURED", amount: 300, refunded: 300 },
  ],
  ledger: [
    { account: "PROCESSOR", currencyCode: "EUR", amount: 500 },
    { account: "SALES", currencyCode: "EUR", amount: -800 },
    { account: "REFUNDS", currencyCode: "EUR", amount: 300 },
  ],
  events: [
    { position: 1, eventId: "e1", type: "OrderPlaced", orderId: "o1" },
    { position: 2, eventId: "e2", type: "OrderConfirmed", orderId: "o1" },
    { position: 3, eventId: "e3", type: "OrderPlaced", orderId: "o2" },
    { position: 4, eventId: "e4", type: "OrderConfirmed", orderId: "o2" },
    { position: 5, eventId: "e5", type: "OrderPlaced", orderId: "o3" },
    { position: 6, eventId: "e6", type: "OrderCancelled", orderId: "o2" },
    { position: 7, eventId: "e7", type: "OrderRejected", orderId: "o3" },
  ],
  notifications: ["e2", "e4", "e6", "e7"].map((notificationId) => ({ notificationId, orderId: "" })),
  carts: [{ customerId: "alice", expected: { kite: 0 }, found: {} }],
  cursors: [{ consumer: "carts", position: 7, setAside: 0 }],
};

const [first, second, third] = good.orders as [Snapshot["orders"][0], Snapshot["orders"][0], Snapshot["orders"][0]];
const firstTold = good.told[0]!;

/** What each check must see. */
const wrong: Record<keyof typeof checks, Record<string, Partial<Snapshot>>> = {
  "every order that a client was told of exists, one for each request": {
    "an order is lost": { orders: [second, third] },
    "a request made two orders": { orders: [...good.orders, { ...first, orderId: "o4" }] },
    "a client was told of two": { told: [{ ...firstTold, orderIds: ["o1", "o2"] }] },
    "a client was told of another's": { told: [{ ...firstTold, orderIds: ["o3"] }] },
  },
  "every order is final": {
    "an order is pending": { orders: [{ ...first, state: "PENDING" }] },
  },
  "stock is where it was put: on hand, or committed": {
    "a reservation is held": {
      reservations: [{ ...good.reservations[0]!, state: "HELD" }],
      stock: [{ productId: "kite", putIn: 10, onHand: 10, reserved: 2 }],
    },
    "stock is lost": { stock: [{ productId: "kite", putIn: 10, onHand: 7, reserved: 0 }] },
    "stock is negative": { stock: [{ productId: "kite", putIn: 1, onHand: -1, reserved: 0 }] },
    "stock is reserved for nobody": { stock: [{ productId: "kite", putIn: 10, onHand: 8, reserved: 1 }] },
  },
  "stock and orders agree": {
    "a confirmed order has no stock": { reservations: good.reservations.slice(1) },
    "a cancelled order keeps its stock": { reservations: good.reservations.map((one) => ({ ...one, state: "COMMITTED" })) },
  },
  "a confirmed order was captured once, any other has nothing captured or kept": {
    "nothing was captured": { charges: [] },
    "too much was captured": { charges: [{ ...good.charges[0]!, amount: 501 }] },
    "it was captured twice": {
      payments: [...good.payments, { paymentId: "p4", orderId: "o1", state: "CAPTURED", chargeId: "c4" }],
      charges: [...good.charges, { chargeId: "c4", state: "CAPTURED", amount: 500, refunded: 0 }],
    },
    "a charge is known to nobody": { charges: [...good.charges, { chargeId: "c4", state: "AUTHORIZED", amount: 500, refunded: 0 }] },
    "a cancelled order was not refunded": { charges: [good.charges[0]!, { ...good.charges[1]!, refunded: 299 }] },
    "a rejected order keeps an authorization": {
      payments: [...good.payments.slice(0, 2), { paymentId: "o3", orderId: "o3", state: "AUTHORIZED", chargeId: "c3" }],
      charges: [...good.charges, { chargeId: "c3", state: "AUTHORIZED", amount: 100, refunded: 0 }],
    },
  },
  "the ledger balances, and agrees with the processor": {
    "the ledger does not balance": { ledger: good.ledger.slice(0, 2) },
    "the processor says something else": { charges: good.charges.slice(1) },
  },
  "one notification for each event that is told": {
    "one is missing": { notifications: good.notifications.slice(1) },
    "one is there twice": { notifications: [...good.notifications, good.notifications[0]!] },
    "one tells no event": { notifications: [...good.notifications, { notificationId: "e1", orderId: "" }] },
  },
  "carts were emptied of what was ordered, and of nothing else": {
    "a cart is still full": { carts: [{ customerId: "alice", expected: {}, found: { kite: 2 } }] },
    "a cart lost something": { carts: [{ customerId: "alice", expected: { kite: 2 }, found: { kite: 1 } }] },
  },
  "events are legal, in order, and say what the orders say": {
    "an event is missing": { events: good.events.filter(({ eventId }) => eventId !== "e6") },
    "positions have a gap": { events: good.events.map((event) => ({ ...event, position: event.position * 2 })) },
    "events are in the wrong order": {
      events: good.events.map((event, index) => ({ ...event, type: good.events[index === 0 ? 1 : index === 1 ? 0 : index]!.type })),
    },
    "an order came to a state from where it may not": {
      orders: [{ ...third, state: "CONFIRMED", history: ["PENDING", "REJECTING", "CONFIRMED"] }],
      events: [
        { position: 1, eventId: "e1", type: "OrderPlaced", orderId: "o3" },
        { position: 2, eventId: "e2", type: "OrderConfirmed", orderId: "o3" },
      ],
    },
    "an order is what it never came to": { orders: [{ ...first, state: "SHIPPED" }, second, third] },
  },
  "consumers have read all": {
    "one is behind": { cursors: [{ consumer: "carts", position: 6, setAside: 0 }] },
    "one has set something aside": { cursors: [{ consumer: "carts", position: 7, setAside: 1 }] },
  },
  "payments say what the processor says": {
    "one says it was captured that was not": { payments: good.payments.map((one) => ({ ...one, state: "CAPTURED" })) },
    "one says it is voided that was captured": { payments: [{ ...good.payments[0]!, state: "VOIDED" }] },
    "one does not know of a refund": { charges: [good.charges[0]!, { ...good.charges[1]!, refunded: 200 }] },
  },
};
const names = Object.keys(checks) as (keyof typeof checks)[];

test("a run in which all went well violates nothing", () => {
  expect(names.flatMap((name) => checks[name](good))).toEqual([]);
});

test.each(names.flatMap((name) => Object.entries(wrong[name]).map(([what, change]) => [name, what, change] as const)))(
  "%s: seen where %s",
  (name, _what, change) => {
    expect(checks[name]({ ...good, ...change })).not.toEqual([]);
  },
);
