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

/** What each check must see, by the check's name. */
const wrong: [check: string, what: string, change: Partial<Snapshot>][] = [
  ["every order that a client was told of exists, one for each request", "an order is lost", { orders: [second, third] }],
  [
    "every order that a client was told of exists, one for each request",
    "a request made two orders",
    { orders: [...good.orders, { ...first, orderId: "o4" }] },
  ],
  [
    "every order that a client was told of exists, one for each request",
    "a client was told of two",
    { told: [{ ...firstTold, orderIds: ["o1", "o2"] }] },
  ],
  [
    "every order that a client was told of exists, one for each request",
    "a client was told of another's",
    { told: [{ ...firstTold, orderIds: ["o3"] }] },
  ],
  ["every order is final", "an order is pending", { orders: [{ ...first, state: "PENDING" }] }],
  [
    "stock is where it was put: on hand, or committed",
    "a reservation is held",
    { reservations: [{ ...good.reservations[0]!, state: "HELD" }] },
  ],
  [
    "stock is where it was put: on hand, or committed",
    "stock is lost",
    { stock: [{ productId: "kite", putIn: 10, onHand: 7, reserved: 0 }] },
  ],
  [
    "stock is where it was put: on hand, or committed",
    "stock is negative",
    { stock: [{ productId: "kite", putIn: 1, onHand: -1, reserved: 0 }] },
  ],
  [
    "stock is where it was put: on hand, or committed",
    "stock is reserved for nobody",
    { stock: [{ productId: "kite", putIn: 10, onHand: 8, reserved: 1 }] },
  ],
  ["stock and orders agree", "a confirmed order has no stock", { reservations: good.reservations.slice(1) }],
  [
    "stock and orders agree",
    "a cancelled order keeps its stock",
    { reservations: good.reservations.map((one) => ({ ...one, state: "COMMITTED" })) },
  ],
  ["a confirmed order was captured once, any other has nothing captured or kept", "nothing was captured", { charges: [] }],
  [
    "a confirmed order was captured once, any other has nothing captured or kept",
    "too much was captured",
    { charges: [{ ...good.charges[0]!, amount: 501 }] },
  ],
  [
    "a confirmed order was captured once, any other has nothing captured or kept",
    "it was captured twice",
    {
      payments: [...good.payments, { paymentId: "p4", orderId: "o1", state: "CAPTURED", chargeId: "c4" }],
      charges: [...good.charges, { chargeId: "c4", state: "CAPTURED", amount: 500, refunded: 0 }],
    },
  ],
  [
    "a confirmed order was captured once, any other has nothing captured or kept",
    "a charge is known to nobody",
    { charges: [...good.charges, { chargeId: "c4", state: "AUTHORIZED", amount: 500, refunded: 0 }] },
  ],
  [
    "a confirmed order was captured once, any other has nothing captured or kept",
    "a cancelled order was not refunded",
    { charges: [good.charges[0]!, { ...good.charges[1]!, refunded: 299 }] },
  ],
  [
    "a confirmed order was captured once, any other has nothing captured or kept",
    "a rejected order keeps an authorization",
    {
      payments: [...good.payments.slice(0, 2), { paymentId: "o3", orderId: "o3", state: "AUTHORIZED", chargeId: "c3" }],
      charges: [...good.charges, { chargeId: "c3", state: "AUTHORIZED", amount: 100, refunded: 0 }],
    },
  ],
  ["the ledger balances, and agrees with the processor", "the ledger does not balance", { ledger: good.ledger.slice(0, 2) }],
  ["the ledger balances, and agrees with the processor", "the processor says something else", { charges: good.charges.slice(1) }],
  ["one notification for each event that is told", "one is missing", { notifications: good.notifications.slice(1) }],
  [
    "one notification for each event that is told",
    "one is there twice",
    { notifications: [...good.notifications, good.notifications[0]!] },
  ],
  [
    "one notification for each event that is told",
    "one tells no event",
    { notifications: [...good.notifications, { notificationId: "e1", orderId: "" }] },
  ],
  [
    "carts were emptied of what was ordered, and of nothing else",
    "a cart is still full",
    { carts: [{ customerId: "alice", expected: {}, found: { kite: 2 } }] },
  ],
  [
    "carts were emptied of what was ordered, and of nothing else",
    "a cart lost something",
    { carts: [{ customerId: "alice", expected: { kite: 2 }, found: { kite: 1 } }] },
  ],
  [
    "events are legal, in order, and say what the orders say",
    "an event is missing",
    { events: good.events.filter(({ eventId }) => eventId !== "e6") },
  ],
  [
    "events are legal, in order, and say what the orders say",
    "positions have a gap",
    { events: good.events.map((event) => ({ ...event, position: event.position * 2 })) },
  ],
  [
    "events are legal, in order, and say what the orders say",
    "events are in the wrong order",
    { events: good.events.map((event, index) => ({ ...event, type: good.events[index === 0 ? 1 : index === 1 ? 0 : index]!.type })) },
  ],
  [
    "events are legal, in order, and say what the orders say",
    "an order came to a state from where it may not",
    {
      orders: [{ ...third, state: "CONFIRMED", history: ["PENDING", "REJECTING", "CONFIRMED"] }],
      events: [
        { position: 1, eventId: "e1", type: "OrderPlaced", orderId: "o3" },
        { position: 2, eventId: "e2", type: "OrderConfirmed", orderId: "o3" },
      ],
    },
  ],
  [
    "events are legal, in order, and say what the orders say",
    "an order is what it never came to",
    { orders: [{ ...first, state: "SHIPPED" }, second, third] },
  ],
  ["consumers have read all", "one is behind", { cursors: [{ consumer: "carts", position: 6, setAside: 0 }] }],
  ["consumers have read all", "one has set something aside", { cursors: [{ consumer: "carts", position: 7, setAside: 1 }] }],
];

test("a run in which all went well violates nothing", () => {
  expect(Object.values(checks).flatMap((check) => check(good))).toEqual([]);
});

test.each(wrong)("%s: seen where %s", (name, _what, change) => {
  expect(checks[name]?.({ ...good, ...change })).not.toEqual([]);
});

test("each check is tried", () => {
  expect(new Set(wrong.map(([name]) => name))).toEqual(new Set(Object.keys(checks)));
});
