import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { InventoryService } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { NotificationsService } from "@parley/gen/parley/notifications/v1/notifications_pb.js";
import { type Order, OrdersService, RejectReason, OrderState as State } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { PaymentState, PaymentsService } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { optionsFor, partPids, type Suite, startSuite } from "./suite.ts";

/** What must be in no log, each a word of its own. */
const secrets = {
  name: "Zacharias Wetterstein",
  street: "Geheimweg 77",
  postalCode: "98765-SECRET",
  city: "Verborgenhausen",
  email: "zacharias@secret.example.org",
  token: "tok_suspected_fraud",
};
const address = { ...secrets, token: undefined, countryCode: "DE" };

let suite: Suite;
let staff: Awaited<ReturnType<typeof optionsFor>>;
beforeAll(async () => {
  suite = await startSuite({ args: ["--split"], env: { PARLEY_LOG_LEVEL: "debug" } });
  staff = await optionsFor(suite, "eve", "staff");
});
afterAll(async () => {
  expect(await suite.stop()).toBe(0);
});

function open() {
  const transport = createConnectTransport({ baseUrl: suite.gatewayUrl });
  return {
    carts: createClient(CartsService, transport),
    inventory: createClient(InventoryService, transport),
    orders: createClient(OrdersService, transport),
    payments: createClient(PaymentsService, transport),
    notifications: createClient(NotificationsService, transport),
  };
}

/** A customer who orders so many kites, and how. */
async function openCustomer(customerId: string, paymentToken = "tok_approved") {
  const clients = open();
  const options = await optionsFor(suite, customerId, "customer");
  const fill = async (quantity = 2) =>
    (await clients.carts.addItem({ productId: "kite", quantity, requestId: randomUUID() }, options)).cart!;
  const place = async (cart: Awaited<ReturnType<typeof fill>>, requestId: string = randomUUID()): Promise<Order> => {
    const request = { requestId, cartEtag: cart.etag, shippingAddress: address, paymentToken, expectedTotal: cart.total! };
    return (await clients.orders.placeOrder(request, options)).order!;
  };
  const get = async (orderId: string) => (await clients.orders.getOrder({ orderId }, options)).order!;
  const become = (orderId: string, state: State) => eventually(async () => expect((await get(orderId)).state).toBe(state));
  return { ...clients, options, fill, place, get, become };
}

test("a customer orders: the stock goes down, the money is taken, the cart is empty, and a message is there", async () => {
  const { carts, orders, inventory, payments, notifications, options, fill, place } = await openCustomer("alice");
  const before = (await inventory.getStock({ productId: "kite" })).stock!;
  const order = await place(await fill(3));
  expect(order.state).toBe(State.CONFIRMED);
  expect((await inventory.getStock({ productId: "kite" })).stock).toMatchObject({ onHand: before.onHand - 3n, reserved: 0n });
  const { payment } = await payments.getPayment({ paymentId: order.orderId }, options);
  expect(payment).toMatchObject({ state: PaymentState.CAPTURED, amount: order.total! });
  await eventually(async () => expect((await carts.getCart({}, options)).cart!.lines).toEqual([]));
  const shipped = await orders.markShipped({ orderId: order.orderId }, staff);
  expect(shipped.order?.state).toBe(State.SHIPPED);
  await eventually(async () => {
    const { notifications: told } = await notifications.listNotifications({}, options);
    expect(told.map(({ subject }) => subject.split(" ").at(-1))).toEqual(["shipped", "confirmed"]);
  });
});

test("over REST: an order that cannot be, and why; a page of orders; a cancel", async () => {
  const { fill, options } = await openCustomer("rest");
  const cart = await fill(1);
  const call = async (method: string, path: string, body?: unknown) => {
    const headers = { ...options.headers, "content-type": "application/json" };
    const response = await fetch(suite.gatewayUrl + path, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) });
    const answer: { orderId?: string } = JSON.parse(await response.text());
    return { status: response.status, answer };
  };
  const request = {
    requestId: randomUUID(),
    cartEtag: cart.etag,
    shippingAddress: { name: "R", street: "S 1", city: "C", countryCode: "DE", email: "r@example.org" },
    paymentToken: "tok_approved",
    expectedTotal: { currencyCode: "EUR", minorUnits: "1" },
  };
  expect(await call("POST", "/v1/orders", request)).toMatchObject({
    status: 400,
    answer: { code: 9, details: [{ reason: "PRICE_CHANGED", domain: "parley.orders.v1", metadata: { totalMinorUnits: "2490" } }] },
  });
  const expectedTotal = { currencyCode: "EUR", minorUnits: "2490" };
  const { answer: order } = await call("POST", "/v1/orders", { ...request, expectedTotal });
  expect(order).toMatchObject({ state: "ORDER_STATE_CONFIRMED", total: expectedTotal });
  expect(await call("GET", "/v1/orders?pageSize=1")).toMatchObject({ status: 200, answer: { orders: [{ orderId: order.orderId }] } });
  expect(await call("POST", `/v1/orders/${order.orderId}:cancel`, {})).toMatchObject({ answer: { state: "ORDER_STATE_CANCELLED" } });
  expect(await call("GET", `/v1/payments/${order.orderId}`)).toMatchObject({ answer: { state: "PAYMENT_STATE_REFUNDED" } });
});

test("a rejected order leaves the cart alone, and another card takes it", async () => {
  const { carts, options, fill, place } = await openCustomer("declined", "tok_insufficient_funds");
  const cart = await fill();
  expect(await place(cart)).toMatchObject({ state: State.REJECTED, rejectReason: RejectReason.PAYMENT_DECLINED });
  expect((await carts.getCart({}, options)).cart).toEqual(cart);
  const { place: placeAgain } = await openCustomer("declined");
  expect((await placeAgain(cart)).state).toBe(State.CONFIRMED);
});

test("what sells out while many order is never oversold, though each has it in the cart twice over", async () => {
  // Medusa #16502: two lines of one cart that share a product. Here they are one line, and a reservation sums them.
  const { inventory } = open();
  await inventory.setStock({ productId: "enamel-mug", onHand: 10n }, staff);
  const states = await Promise.all(
    Array.from({ length: 8 }, async (_, index) => {
      const { carts, options, place } = await openCustomer(`mug-${index}`);
      await carts.addItem({ productId: "enamel-mug", quantity: 2, requestId: randomUUID() }, options);
      const { cart } = await carts.addItem({ productId: "enamel-mug", quantity: 1, requestId: randomUUID() }, options);
      return (await place(cart!)).state;
    }),
  );
  expect(states.filter((state) => state === State.CONFIRMED)).toHaveLength(3);
  expect((await inventory.getStock({ productId: "enamel-mug" })).stock).toMatchObject({ onHand: 1n, reserved: 0n });
});

test("a payment that takes 2 s makes a PENDING order, which is confirmed later; asked again it is the same", async () => {
  const { fill, place, become } = await openCustomer("slow", "tok_slow");
  const cart = await fill();
  const requestId = randomUUID();
  const order = await place(cart, requestId);
  await become(order.orderId, State.CONFIRMED);
  expect((await place(cart, requestId)).orderId).toBe(order.orderId);
});

test("a payment whose answer is lost is not taken twice", async () => {
  const { payments, options, fill, place, become } = await openCustomer("lost", "tok_times_out");
  const { orderId } = await place(await fill());
  await become(orderId, State.CONFIRMED);
  const { payments: made } = await payments.listPayments({}, options);
  expect(made).toMatchObject([{ paymentId: orderId, state: PaymentState.CAPTURED }]);
});

test("when payments is killed in the midst of a checkout, the order is confirmed when it is back", async () => {
  const { fill, place, become } = await openCustomer("killed", "tok_slow");
  const placing = place(await fill());
  await eventually(async () => expect((await open().payments.listPayments({}, staff)).payments[0]).toMatchObject({ customerId: "killed" }));
  process.kill((await partPids(suite, "payments"))[0]!, "SIGKILL");
  const { orderId } = await placing;
  await become(orderId, State.CONFIRMED);
});

test("who watches asks again when orders is restarted, and goes on", async () => {
  const { orders, options, fill, place } = await openCustomer("watcher", "tok_slow");
  const { orderId } = await place(await fill());
  const seen: State[] = [];
  let isKilled = false;
  await eventually(async () => {
    for await (const { order } of orders.watchOrder({ orderId }, options)) {
      if (seen.at(-1) !== order!.state) seen.push(order!.state);
      if (!isKilled) process.kill((await partPids(suite, "orders"))[0]!, "SIGKILL");
      isKilled = true;
      if (order!.state === State.CONFIRMED) return;
    }
    throw new Error("the stream ended before the order did");
  });
  expect(seen.at(-1)).toBe(State.CONFIRMED);
  await eventually(() => orders.getOrder({ orderId }, options)); // it is back: who looks late sees the order confirmed at once
});

test("no log of a checkout, however it goes, holds a card's token, a name, an address or an e-mail", async () => {
  const { orders, options, fill, place } = await openCustomer("private", secrets.token);
  const cart = await fill();
  await place(cart);
  const request = { requestId: randomUUID(), cartEtag: cart.etag, shippingAddress: address, paymentToken: secrets.token };
  // Requests that break their rules, or are no JSON at all, by each way in.
  for (const broken of [
    { ...request, shippingAddress: { ...address, email: `${secrets.email} ${secrets.email}` } },
    { ...request, paymentToken: `${secrets.token} !` },
    { ...request, shippingAddress: { ...address, street: secrets.street.repeat(30) } },
  ])
    await orders.placeOrder(broken, options).catch(() => {});
  const bodies = [
    `{"shippingAddress": {"name": ["${secrets.name}"]}, "paymentToken": {"x": "${secrets.token}"}}`,
    `{"paymentToken": "${secrets.token}", "cartEtag": 5, "${secrets.email}": "${secrets.street}"}`,
    `{"paymentToken": "${secrets.token}", "shippingAddress": {"city": "${secrets.city}"`,
    `{"expectedTotal": {"minorUnits": "${secrets.email}"}}`,
  ];
  for (const path of ["/v1/orders", "/parley.orders.v1.OrdersService/PlaceOrder"]) {
    for (const body of bodies) {
      const headers = { ...options.headers, "content-type": "application/json" };
      expect((await fetch(suite.gatewayUrl + path, { method: "POST", headers, body })).status).toBe(400);
    }
  }
  await eventually(() => expect(suite.lines.some((line) => line.includes("OrdersService/PlaceOrder"))).toBe(true));
  const lines = [...suite.lines, ...suite.errors];
  expect(lines.length).toBeGreaterThan(100);
  for (const secret of Object.values(secrets)) expect(lines.filter((line) => line.includes(secret))).toEqual([]);
});
