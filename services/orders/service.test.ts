import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type CallOptions, Code, ConnectError, createClient, type HandlerContext } from "@connectrpc/connect";
import { openEventLog } from "@parley/chassis/data/event-log.ts";
import { createFail, fail } from "@parley/chassis/rpc/errors.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { asService, asUser } from "@parley/chassis/testing/auth.ts";
import { openTestDatabase } from "@parley/chassis/testing/database.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { failureOf, reasonOf } from "@parley/chassis/testing/failure.ts";
import { createNeighbour, createTestLog, openTestServer, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { testTelemetry } from "@parley/chassis/testing/telemetry.ts";
import { BadRequestSchema, ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { CatalogService, ProductState } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { ErrorReason as Failure } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { InventoryService, ReservationState } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { type Order, OrdersService, RejectReason, OrderState as State } from "@parley/gen/parley/orders/v1/orders_pb.js";
import {
  ErrorReason as PaymentFailure,
  ErrorReasonSchema as PaymentFailures,
  PaymentsService,
} from "@parley/gen/parley/payments/v1/payments_pb.js";
import { sql } from "kysely";
import { expect, onTestFinished, test } from "vitest";
import { createPerform } from "./checkout.ts";
import { createHandlers } from "./handlers.ts";
import { findNext } from "./order.ts";
import { createOrderMetrics } from "./order-metrics.ts";
import { createOrderWatch } from "./order-watch.ts";
import { type SagaOptions, startSaga } from "./saga.ts";
import { ordersDatabase } from "./service.ts";
import { createStore } from "./store.ts";
import { createTransitions } from "./transition.ts";

const failPayment = createFail(PaymentFailures);
const eur = (minorUnits: bigint) => ({ currencyCode: "EUR", minorUnits });
const address = {
  name: "Alice Example",
  street: "Main Street 1",
  postalCode: "12345",
  city: "Berlin",
  countryCode: "DE",
  email: "alice@example.org",
};

/** What a step of a neighbour does in a test: it may fail, or wait. */
type Step = (context: HandlerContext) => Promise<void> | void;

interface World {
  /** The cart of every customer, which the test may change. */
  cart: { etag: string; lines: { productId: string; quantity: number }[] };
  prices: Map<string, { currencyCode: string; minorUnits: bigint }>;
  archived: Set<string>;
  steps: Partial<Record<"reserve" | "authorize" | "commit" | "capture" | "release" | "void" | "refund" | "getCart", Step>>;
  /** What the neighbours were asked for, in order. */
  readonly calls: string[];
}

/** Orders with neighbours in memory, which answer as the real ones do where all goes well. */
async function openOrders(options: { waitMs?: number; saga?: Partial<SagaOptions> } = {}) {
  const database = await openTestDatabase(ordersDatabase);
  const { log, logs } = createTestLog();
  const world: World = {
    cart: {
      etag: "7",
      lines: [
        { productId: "lamp", quantity: 2 },
        { productId: "bowl", quantity: 1 },
      ],
    },
    prices: new Map([
      ["lamp", eur(4_999n)],
      ["bowl", eur(100n)],
    ]),
    archived: new Set(),
    steps: {},
    calls: [],
  };
  const step = async (name: keyof World["steps"], context: HandlerContext): Promise<void> => {
    world.calls.push(name);
    await world.steps[name]?.(context);
  };
  const inventory = createNeighbour(InventoryService, {
    async reserve({ reservationId, hold }, context) {
      await step("reserve", context);
      if (hold?.seconds !== 900n) throw new Error("a reservation lives 5 minutes longer than the checkout");
      return { reservation: { reservationId, state: ReservationState.HELD } };
    },
    commitReservation: (_, context) => step("commit", context).then(() => ({})),
    releaseReservation: (_, context) => step("release", context).then(() => ({})),
  });
  const payments = createNeighbour(PaymentsService, {
    authorize: (_, context) => step("authorize", context).then(() => ({})),
    capture: (_, context) => step("capture", context).then(() => ({})),
    void: (_, context) => step("void", context).then(() => ({})),
    refund: (_, context) => step("refund", context).then(() => ({})),
  });
  const carts = createNeighbour(CartsService, {
    async getCart(_, context) {
      await step("getCart", context);
      return { cart: { ...world.cart, customerId: "alice" } };
    },
  });
  const catalog = createNeighbour(CatalogService, {
    batchGetProducts: ({ productIds }) => ({
      products: productIds.flatMap((productId) => {
        const price = world.prices.get(productId);
        const state = world.archived.has(productId) ? ProductState.ARCHIVED : ProductState.ACTIVE;
        return price === undefined ? [] : { productId, title: `The ${productId}`, price, state };
      }),
    }),
  });

  /** A replica of the service. */
  async function open() {
    const eventLog = openEventLog(database, { source: "orders", log });
    onTestFinished(() => eventLog.close());
    const store = createStore(database.db);
    const watch = createOrderWatch(store, log);
    const perform = createPerform({
      inventory: createClient(InventoryService, inventory),
      payments: createClient(PaymentsService, payments),
      timeoutMs: 600_000,
    });
    const telemetry = testTelemetry();
    const transitions = createTransitions(
      eventLog,
      createOrderMetrics(telemetry, () => store.countStuck({ minAgeMs: 60_000, minAttempts: 2 })),
    );
    const saga = startSaga({ database, transitions, watch, perform, timeoutMs: 600_000, log, ...options.saga });
    onTestFinished(() => saga.stop());
    const handlers = createHandlers({
      database,
      transitions,
      saga,
      watch,
      carts: createClient(CartsService, carts),
      catalog: createClient(CatalogService, catalog),
      waitMs: options.waitMs ?? 10_000,
    });
    const { port } = await openTestServer([implement(OrdersService, handlers), implement(EventLogService, eventLog.handlers)]);
    const transport = openTestTransport([port], { retries: false });
    return { client: createClient(OrdersService, transport), eventLog: createClient(EventLogService, transport), saga, telemetry };
  }

  const replica = await open();
  const { client } = replica;
  const [alice, bob, staff] = [await asUser("alice", "customer"), await asUser("bob", "customer"), await asUser("eve", "staff")];
  const request = (overrides = {}) => ({
    requestId: randomUUID() as string,
    cartEtag: world.cart.etag,
    shippingAddress: address,
    paymentToken: "tok_approved",
    expectedTotal: eur(10_098n),
    ...overrides,
  });
  const place = async (given = request(), as: CallOptions = alice) => (await client.placeOrder(given, as)).order!;
  const get = async (orderId: string, as: CallOptions = alice) => (await client.getOrder({ orderId }, as)).order!;
  const cancel = async (orderId: string, as: CallOptions = alice) => (await client.cancelOrder({ orderId }, as)).order!;
  const events = async () => {
    const service = await asService();
    const types: string[] = [];
    for await (const { event } of replica.eventLog.read({}, service)) types.push(event!.type.replace("parley.orders.v1.", ""));
    return types;
  };
  const count = async () => (await database.db.selectFrom("customer_order").select("order_id").execute()).length;
  return { database, world, open, client, alice, bob, staff, request, place, get, cancel, events, count, logs, saga: replica.saga };
}

const unavailable = (): never => {
  throw fail(Failure.UNAVAILABLE, "away");
};
const hang: Step = async ({ signal }) => {
  if (!signal.aborted) await once(signal, "abort");
  throw new ConnectError("aborted", Code.Canceled);
};
const statesOf = ({ history }: Order): string[] => history.map(({ state }) => State[state]);

test("what is in the cart is ordered at the prices of now, and confirmed", async () => {
  const { place, get, events, world, database } = await openOrders();
  const order = await place();
  expect(order).toMatchObject({
    customerId: "alice",
    state: State.CONFIRMED,
    cartEtag: "7",
    total: eur(10_098n),
    shippingAddress: address,
    lines: [
      { productId: "lamp", title: "The lamp", quantity: 2, price: eur(4_999n) },
      { productId: "bowl", title: "The bowl", quantity: 1, price: eur(100n) },
    ],
  });
  expect(statesOf(order)).toEqual(["PENDING", "CONFIRMED"]);
  expect(world.calls).toEqual(["getCart", "reserve", "authorize", "commit", "capture"]);
  world.prices.set("lamp", eur(1n));
  expect(await get(order.orderId)).toEqual(order);
  expect(await events()).toEqual(["OrderPlaced", "OrderConfirmed"]);
  const { payment_token: token, due_at: due } = await database.db.selectFrom("customer_order").selectAll().executeTakeFirstOrThrow();
  expect([token, due]).toEqual([null, null]); // nothing is left to be done with it
});

test("a repeat gets the order, whatever the cart says by then; with other contents it is refused", async () => {
  const { place, world, request, count } = await openOrders();
  const given = request();
  const order = await place(given);
  world.cart = { etag: "8", lines: [] };
  expect(await place(given)).toEqual(order);
  const mismatch = [Code.AlreadyExists, "REQUEST_MISMATCH"];
  for (const other of [
    { cartEtag: "8" },
    { paymentToken: "tok_declined" },
    { expectedTotal: eur(1n) },
    { shippingAddress: { ...address, street: "Elsewhere 2" } },
  ])
    expect(await reasonOf(place({ ...given, ...other }))).toEqual(mismatch);
  expect(await count()).toBe(1);
});

test("equal calls at once make one order, also where the cart changes with the first of them", async () => {
  const { place, world, request, count } = await openOrders();
  world.steps.capture = () => {
    world.cart = { etag: "8", lines: [] };
  };
  const given = request();
  const orders = await Promise.all(Array.from({ length: 8 }, () => place(given)));
  expect(new Set(orders.map(({ orderId }) => orderId)).size).toBe(1);
  expect(await count()).toBe(1);
  expect(world.calls.filter((call) => call === "capture")).toHaveLength(1);
});

test("of two calls at once with one request id and other contents, one is refused for that", async () => {
  const { place, request, count } = await openOrders();
  const given = request();
  const other = { ...given, shippingAddress: { ...address, city: "Hamburg" } };
  const outcomes = await Promise.all([given, other].map((one) => reasonOf(place(one)).catch(() => "placed")));
  expect(outcomes).toEqual(expect.arrayContaining(["placed", [Code.AlreadyExists, "REQUEST_MISMATCH"]]));
  expect(await count()).toBe(1);
});

test("the request ids of customers are their own", async () => {
  const { place, request, bob } = await openOrders();
  const given = request();
  const order = await place(given);
  expect((await place(given, bob)).orderId).not.toBe(order.orderId);
});

const refused: [reason: string, code: Code, change: (world: World) => unknown][] = [
  ["CART_CHANGED", Code.Aborted, (world: World) => Object.assign(world.cart, { etag: "8" })],
  ["CART_EMPTY", Code.FailedPrecondition, (world: World) => Object.assign(world.cart, { lines: [] })],
  ["PRICE_CHANGED", Code.FailedPrecondition, (world: World) => void world.prices.set("lamp", eur(5_000n))],
  // eShop places no order then, empties the basket, and answers 200.
  ["PRODUCT_UNAVAILABLE", Code.FailedPrecondition, (world: World) => void world.archived.add("lamp")],
  ["PRODUCT_UNAVAILABLE", Code.FailedPrecondition, (world: World) => void world.prices.delete("lamp")],
  ["MIXED_CURRENCIES", Code.FailedPrecondition, (world: World) => void world.prices.set("lamp", { currencyCode: "USD", minorUnits: 1n })],
];

test.each(refused)("%s is told, and nothing is stored or asked for", async (reason, code, change) => {
  const { place, world, request, count, events } = await openOrders();
  const given = request();
  change(world);
  expect(await reasonOf(place(given))).toEqual([code, reason]);
  expect(await reasonOf(place(given))).toEqual([code, reason]); // the retry is not reported as a success
  expect([await count(), await events(), world.calls]).toEqual([0, [], ["getCart", "getCart"]]);
});

test("a price that has changed is told with the new total, with which the order goes through", async () => {
  const { place, world, request } = await openOrders();
  const given = request();
  world.prices.set("lamp", eur(5_000n));
  const error = await failureOf(place(given));
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
    { reason: "PRICE_CHANGED", metadata: { totalMinorUnits: "10100", currencyCode: "EUR" } },
  ]);
  expect((await place({ ...given, expectedTotal: eur(10_100n) })).state).toBe(State.CONFIRMED);
});

test("carts that cannot be reached are UNAVAILABLE, and nothing is stored", async () => {
  const { place, world, count } = await openOrders();
  world.steps.getCart = unavailable;
  expect((await failureOf(place())).code).toBe(Code.Unavailable);
  expect(await count()).toBe(0);
});

test("of one cart there is one order, not counting those that were rejected", async () => {
  const { place, world } = await openOrders();
  world.steps.authorize = () => {
    throw failPayment(PaymentFailure.PAYMENT_DECLINED, "declined");
  };
  expect((await place()).state).toBe(State.REJECTED);
  delete world.steps.authorize;
  const late = Promise.withResolvers<void>();
  world.steps.capture = () => late.promise;
  const pending = place();
  await eventually(() => expect(world.calls).toContain("capture"));
  expect(await reasonOf(place())).toEqual([Code.FailedPrecondition, "CART_ALREADY_ORDERED"]);
  late.resolve();
  expect((await pending).state).toBe(State.CONFIRMED);
});

test("an order that was cancelled before it was confirmed does not use its cart up, one that was confirmed does", async () => {
  const { client, alice, place, cancel, world, request } = await openOrders({ waitMs: 1 });
  world.steps.authorize = hang;
  const pending = await place();
  expect(pending.state).toBe(State.PENDING);
  expect(await reasonOf(place())).toEqual([Code.FailedPrecondition, "CART_ALREADY_ORDERED"]);
  world.steps = {};
  await cancel(pending.orderId);
  await eventually(async () => expect((await client.getOrder({ orderId: pending.orderId }, alice)).order?.state).toBe(State.CANCELLED));
  const second = await place(request());
  await eventually(async () => expect((await client.getOrder({ orderId: second.orderId }, alice)).order?.state).toBe(State.CONFIRMED));
  await cancel(second.orderId);
  await eventually(async () => expect((await client.getOrder({ orderId: second.orderId }, alice)).order?.state).toBe(State.CANCELLED));
  expect(await reasonOf(place())).toEqual([Code.FailedPrecondition, "CART_ALREADY_ORDERED"]);
});

const refusals: [name: string, change: (steps: World["steps"]) => void, reason: RejectReason, calls: string[]][] = [
  [
    "a card that is declined",
    (steps) => {
      steps.authorize = () => {
        throw failPayment(PaymentFailure.PAYMENT_DECLINED, "declined");
      };
    },
    RejectReason.PAYMENT_DECLINED,
    ["reserve", "authorize", "release", "void"],
  ],
  [
    "a payment that was voided before its capture",
    (steps) => {
      steps.capture = () => {
        throw failPayment(PaymentFailure.PAYMENT_VOIDED, "voided");
      };
    },
    RejectReason.PAYMENT_DECLINED,
    ["reserve", "authorize", "commit", "capture", "release", "void"],
  ],
  [
    // Vendure #3065: charged but rejected.
    "a reservation that is lost before its commit",
    (steps) => {
      steps.commit = () => {
        throw new ConnectError("ended", Code.FailedPrecondition, undefined, [
          { desc: ErrorInfoSchema, value: { reason: "RESERVATION_ENDED", domain: "parley.inventory.v1" } },
        ]);
      };
    },
    RejectReason.OUT_OF_STOCK,
    ["reserve", "authorize", "commit", "release", "void"],
  ],
];

test.each(refusals)("%s rejects the order, and all is undone", async (_name, change, rejectReason, calls) => {
  const { place, world, events } = await openOrders();
  change(world.steps);
  const order = await place();
  expect(order).toMatchObject({ state: State.REJECTED, rejectReason });
  expect(statesOf(order)).toEqual(["PENDING", "REJECTING", "REJECTED"]);
  expect(world.calls.slice(1)).toEqual(calls);
  expect(await events()).toEqual(["OrderPlaced", "OrderRejected"]);
});

test("an outcome that is not known is asked for again from the top, until it is known", async () => {
  const { place, world } = await openOrders();
  let failures = 2;
  world.steps.capture = () => {
    if (failures-- > 0) unavailable();
  };
  const order = await place();
  expect(statesOf(order)).toEqual(["PENDING", "CONFIRMED"]);
  const attempt = ["reserve", "authorize", "commit", "capture"];
  expect(world.calls).toEqual(["getCart", ...attempt, ...attempt, ...attempt]);
});

test.each([Code.NotFound, Code.Internal, Code.InvalidArgument, Code.DeadlineExceeded, Code.Unauthenticated])(
  "a failure that refuses nothing (%s) rejects nothing",
  async (code) => {
    const { place, world, get } = await openOrders({ waitMs: 1 });
    world.steps.capture = () => {
      throw new ConnectError("who knows", code);
    };
    const { orderId } = await place();
    await eventually(() => expect(world.calls.filter((call) => call === "capture").length).toBeGreaterThan(1));
    expect((await get(orderId)).state).toBe(State.PENDING);
    expect(world.calls).not.toContain("void");
    world.steps = {};
    await eventually(async () => expect((await get(orderId)).state).toBe(State.CONFIRMED));
  },
);

test.each([
  ["reserve", RejectReason.INVENTORY_UNAVAILABLE],
  ["authorize", RejectReason.PAYMENT_UNAVAILABLE],
  ["commit", RejectReason.INVENTORY_UNAVAILABLE],
  ["capture", RejectReason.PAYMENT_UNAVAILABLE],
] as const)("a checkout whose %s comes to nothing in time is rejected, and undone", async (step, rejectReason) => {
  const { place, world } = await openOrders({ saga: { timeoutMs: 1 } });
  world.steps[step] = unavailable;
  expect(await place()).toMatchObject({ state: State.REJECTED, rejectReason });
  expect(world.calls.slice(-2)).toEqual(["release", "void"]);
});

test("what was captured though nobody knew is refunded", async () => {
  const { place, world } = await openOrders({ saga: { timeoutMs: 1 } });
  world.steps.capture = unavailable; // it went through
  world.steps.void = () => {
    throw failPayment(PaymentFailure.PAYMENT_CAPTURED, "captured");
  };
  expect((await place()).state).toBe(State.REJECTED);
  expect(world.calls.slice(-3)).toEqual(["release", "void", "refund"]);
});

test("undoing is tried until it works", async () => {
  const { place, cancel, world, get } = await openOrders();
  const { orderId } = await place();
  let failures = 2;
  world.steps.release = () => {
    if (failures-- > 0) unavailable();
  };
  expect((await cancel(orderId)).state).toBe(State.CANCELLED);
  expect(statesOf(await get(orderId))).toEqual(["PENDING", "CONFIRMED", "CANCELLING", "CANCELLED"]);
  expect(world.calls.slice(5)).toEqual(["release", "release", "release", "void"]);
});

test("a payment that never answers makes a PENDING order within the time to wait, and no second one", async () => {
  // Online Boutique #3474: checkout hangs for 10 s, and the retry charges again.
  const { place, world, request, get, count } = await openOrders({ waitMs: 100 });
  world.steps.authorize = hang;
  const given = request();
  const order = await place(given);
  expect(order.state).toBe(State.PENDING);
  expect((await place(given)).orderId).toBe(order.orderId);
  expect(await count()).toBe(1);
  expect((await get(order.orderId)).state).toBe(State.PENDING);
});

test("a call whose deadline is short is answered before it, and the order goes on", async () => {
  const { client, alice, world, request, get } = await openOrders();
  const late = Promise.withResolvers<void>();
  world.steps.authorize = () => late.promise;
  const { order } = await client.placeOrder(request(), { ...alice, timeoutMs: 1_000 });
  expect(order?.state).toBe(State.PENDING);
  late.resolve();
  await eventually(async () => expect((await get(order!.orderId)).state).toBe(State.CONFIRMED));
});

test("a caller who leaves does not stop the checkout", async () => {
  const { client, alice, world, request } = await openOrders();
  const late = Promise.withResolvers<void>();
  world.steps.authorize = () => late.promise;
  const leave = new AbortController();
  const given = request();
  const call = client.placeOrder(given, { ...alice, signal: leave.signal });
  await eventually(() => expect(world.calls).toContain("authorize"));
  leave.abort();
  expect((await failureOf(call)).code).toBe(Code.Canceled);
  late.resolve();
  expect((await client.placeOrder(given, alice)).order?.state).toBe(State.CONFIRMED);
  expect(world.calls.filter((name) => name === "authorize")).toHaveLength(1);
});

test("an order that is confirmed can be cancelled: stock and money go back", async () => {
  const { place, cancel, world, events } = await openOrders();
  const { orderId } = await place();
  world.steps.void = () => {
    throw failPayment(PaymentFailure.PAYMENT_CAPTURED, "captured");
  };
  expect((await cancel(orderId)).state).toBe(State.CANCELLED);
  expect((await cancel(orderId)).state).toBe(State.CANCELLED);
  expect(world.calls.slice(-3)).toEqual(["release", "void", "refund"]);
  expect(await events()).toEqual(["OrderPlaced", "OrderConfirmed", "OrderCancelled"]);
});

test("an order that is cancelled in the midst of its checkout is undone, and not confirmed by what comes late", async () => {
  const { place, cancel, world, get } = await openOrders({ waitMs: 1 });
  const late = Promise.withResolvers<void>();
  world.steps.capture = () => late.promise;
  const { orderId } = await place();
  await eventually(() => expect(world.calls).toContain("capture"));
  await cancel(orderId);
  await eventually(async () => expect((await get(orderId)).state).toBe(State.CANCELLED));
  late.resolve();
  expect(statesOf(await get(orderId))).toEqual(["PENDING", "CANCELLING", "CANCELLED"]);
});

test("what has shipped, or was rejected, cannot be cancelled; what is not confirmed cannot ship", async () => {
  const { client, place, cancel, world, staff, request, get, events } = await openOrders();
  const shipped = await place();
  const ship = async (orderId: string) => (await client.markShipped({ orderId }, staff)).order!;
  expect((await ship(shipped.orderId)).state).toBe(State.SHIPPED);
  expect((await ship(shipped.orderId)).state).toBe(State.SHIPPED);
  expect(await reasonOf(cancel(shipped.orderId))).toEqual([Code.FailedPrecondition, "ORDER_SHIPPED"]);
  world.cart.etag = "8";
  world.steps.authorize = () => {
    throw failPayment(PaymentFailure.PAYMENT_DECLINED, "declined");
  };
  const rejected = await place(request());
  expect(await reasonOf(cancel(rejected.orderId))).toEqual([Code.FailedPrecondition, "ORDER_REJECTED"]);
  expect(await reasonOf(ship(rejected.orderId))).toEqual([Code.FailedPrecondition, "ORDER_NOT_CONFIRMED"]);
  expect((await get(rejected.orderId)).state).toBe(State.REJECTED);
  expect(await events()).toEqual(["OrderPlaced", "OrderConfirmed", "OrderShipped", "OrderPlaced", "OrderRejected"]);
});

test("of a cancel and a shipment at once, one wins", async () => {
  const { client, place, cancel, world, staff, request, get } = await openOrders();
  for (let round = 0; round < 5; round++) {
    world.cart.etag = `etag-${round}`;
    const { orderId } = await place(request());
    const [cancelled, shipped] = await Promise.allSettled([cancel(orderId), client.markShipped({ orderId }, staff)]);
    const { state } = await get(orderId);
    expect([cancelled.status, shipped.status].toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(state).toBe(cancelled.status === "fulfilled" ? State.CANCELLED : State.SHIPPED);
  }
});

test("another customer's order can be neither read nor cancelled nor watched", async () => {
  // eShop #996.
  const { client, place, bob, staff, get } = await openOrders();
  const { orderId } = await place();
  const notFound = [Code.NotFound, "ORDER_NOT_FOUND"];
  expect(await reasonOf(client.getOrder({ orderId }, bob))).toEqual(notFound);
  expect(await reasonOf(client.cancelOrder({ orderId }, bob))).toEqual(notFound);
  expect(await reasonOf(client.watchOrder({ orderId }, bob)[Symbol.asyncIterator]().next())).toEqual(notFound);
  expect((await client.listOrders({}, bob)).orders).toEqual([]);
  expect(await reasonOf(client.getOrder({ orderId: randomUUID() }, bob))).toEqual(notFound);
  expect((await get(orderId, staff)).state).toBe(State.CONFIRMED);
});

test("what is for staff is not for customers, and nobody orders for another", async () => {
  const { client, alice, staff, place, request } = await openOrders();
  const { orderId } = await place();
  const denied = [Code.PermissionDenied, "PERMISSION_DENIED"];
  expect(await reasonOf(client.markShipped({ orderId }, alice))).toEqual(denied);
  expect(await reasonOf(client.listStuckOrders({}, alice))).toEqual(denied);
  expect(await reasonOf(client.retryOrder({ orderId }, alice))).toEqual(denied);
  expect(await reasonOf(client.placeOrder(request(), staff))).toEqual(denied);
  expect(await reasonOf(client.placeOrder(request(), await asService()))).toEqual(denied);
});

test("orders are listed a page at a time, the newest first; staff sees all", async () => {
  const { client, alice, bob, staff, place, world, request } = await openOrders();
  const made: string[] = [];
  for (const [index, as] of [alice, bob, alice, alice].entries()) {
    world.cart.etag = String(index);
    made.push((await place(request(), as)).orderId);
  }
  const page = await client.listOrders({ pageSize: 2 }, alice);
  expect(page.orders.map(({ orderId }) => orderId)).toEqual([made[3], made[2]]);
  const rest = await client.listOrders({ pageSize: 2, pageToken: page.nextPageToken }, alice);
  expect([rest.orders.map(({ orderId }) => orderId), rest.nextPageToken]).toEqual([[made[0]], ""]);
  expect((await client.listOrders({}, staff)).orders).toHaveLength(4);
  expect(await reasonOf(client.listOrders({ pageToken: "nonsense" }, alice))).toEqual([Code.InvalidArgument, "INVALID_PAGE_TOKEN"]);
});

test("who watches an order sees it now, and then each change until the last, of other replicas too", async () => {
  const { open, client, alice, staff, world, request } = await openOrders({ waitMs: 1 });
  const late = Promise.withResolvers<void>();
  world.steps.authorize = () => late.promise;
  const { order } = await client.placeOrder(request(), alice);
  const { client: other } = await open();
  const watchers = [client, other];
  const seenBy = new Map<State, number>();
  const seen = await Promise.all(
    watchers.map(async (watcher) => {
      const states: string[] = [];
      for await (const { order: now } of watcher.watchOrder({ orderId: order!.orderId }, alice)) {
        states.push(State[now!.state]);
        const count = (seenBy.get(now!.state) ?? 0) + 1;
        seenBy.set(now!.state, count);
        if (count < watchers.length) continue; // the order goes on when all have seen it as it is
        if (now!.state === State.PENDING) late.resolve();
        if (now!.state === State.CONFIRMED) await client.markShipped({ orderId: order!.orderId }, staff);
      }
      return states;
    }),
  );
  expect(seen).toEqual([
    ["PENDING", "CONFIRMED", "SHIPPED"],
    ["PENDING", "CONFIRMED", "SHIPPED"],
  ]);
  const again: string[] = [];
  for await (const { order: now } of other.watchOrder({ orderId: order!.orderId }, alice)) again.push(State[now!.state]);
  expect(again).toEqual(["SHIPPED"]);
});

test("an id in capitals is the same id", async () => {
  const { client, alice, staff, place, request, get, count } = await openOrders();
  const given = request();
  const { orderId } = await place(given);
  expect((await place({ ...given, requestId: given.requestId.toUpperCase() })).orderId).toBe(orderId);
  expect(await count()).toBe(1);
  const states: string[] = [];
  for await (const { order } of client.watchOrder({ orderId: orderId.toUpperCase() }, alice)) {
    states.push(State[order!.state]);
    if (order!.state === State.CONFIRMED) await client.markShipped({ orderId: orderId.toUpperCase() }, staff);
  }
  expect(states).toEqual(["CONFIRMED", "SHIPPED"]);
  expect((await get(orderId)).state).toBe(State.SHIPPED);
});

test("orders that do not get done are listed for staff by age and attempts, and tried at once when they are told to", async () => {
  const { client, staff, place, world, get, saga, database } = await openOrders({ waitMs: 1 });
  world.steps.authorize = unavailable;
  const { orderId } = await place();
  await eventually(() => expect(world.calls.filter((call) => call === "authorize").length).toBeGreaterThan(1));
  const list = async (query = {}) => (await client.listStuckOrders(query, staff)).stuckOrders;
  expect(await list()).toEqual([]); // neither old nor tried often
  const [stuck] = await list({ minAttempts: 2 });
  expect(stuck).toMatchObject({ order: { orderId } });
  expect(stuck!.attempt).toBeGreaterThan(1);
  expect(await list({ minAge: { seconds: 0n } })).toHaveLength(1);
  await saga.stop();
  await sql`UPDATE customer_order SET due_at = now() + interval '1 hour'`.execute(database.db);
  expect((await client.retryOrder({ orderId }, staff)).order?.orderId).toBe(orderId);
  const due = await database.db.selectFrom("customer_order").select(sql<boolean>`due_at <= now()`.as("due")).executeTakeFirstOrThrow();
  expect(due).toEqual({ due: true });
  expect((await get(orderId)).state).toBe(State.PENDING);
});

test("an order on which nothing is left to be done is not tried again", async () => {
  const { client, staff, place } = await openOrders();
  const { orderId } = await place();
  expect(await reasonOf(client.retryOrder({ orderId }, staff))).toEqual([Code.FailedPrecondition, "ORDER_IS_SETTLED"]);
  expect(await reasonOf(client.retryOrder({ orderId: randomUUID() }, staff))).toEqual([Code.NotFound, "ORDER_NOT_FOUND"]);
});

test("a worker that has lost its lease, or whose order is in another state by now, writes nothing", async () => {
  const { database, place, world, get, alice, client, saga } = await openOrders({ waitMs: 1 });
  const late = Promise.withResolvers<void>();
  world.steps.capture = () => late.promise;
  const { orderId } = await place();
  await eventually(() => expect(world.calls).toContain("capture"));
  const store = createStore(database.db);
  const change = { from: State.PENDING, to: State.REJECTING };
  await sql`UPDATE customer_order SET attempt = 7`.execute(database.db); // another has taken it over
  expect(await store.move(orderId, { ...change, attempt: 1 })).toBeUndefined();
  late.resolve();
  await saga.stop(); // when what it does has ended
  expect((await get(orderId)).state).toBe(State.PENDING);
  expect(await store.move(orderId, { from: State.CONFIRMED, to: State.CANCELLING, attempt: 7 })).toBeUndefined();
  expect((await store.move(orderId, { ...change, attempt: 7 }))?.state).toBe(State.REJECTING);
  expect((await client.getOrder({ orderId }, alice)).order?.state).toBe(State.REJECTING);
});

test("the database lets an order change as the decisions say, and in no other way", async () => {
  const { database, place } = await openOrders();
  const { orderId } = await place();
  const states = [State.PENDING, State.CONFIRMED, State.SHIPPED, State.REJECTING, State.REJECTED, State.CANCELLING, State.CANCELLED];
  const decisions = ["confirm", "reject", "cancel", "ship", "finish"] as const;
  for (const from of states) {
    for (const to of states.filter((state) => state !== from)) {
      await sql`ALTER TABLE customer_order DISABLE TRIGGER USER`.execute(database.db);
      await sql`UPDATE customer_order SET state = ${State[from]}`.execute(database.db);
      await sql`ALTER TABLE customer_order ENABLE TRIGGER USER`.execute(database.db);
      const changing = sql`UPDATE customer_order SET state = ${State[to]} WHERE order_id = ${orderId}`.execute(database.db);
      if (decisions.some((decision) => findNext(decision, from) === to)) await changing;
      else await expect(changing).rejects.toThrow(`may not come from ${State[from]} to ${State[to]}`);
    }
  }
});

const request = {
  requestId: randomUUID(),
  cartEtag: "7",
  shippingAddress: address,
  paymentToken: "tok_approved",
  expectedTotal: eur(1n),
};
test.each([
  ["request_id", { ...request, requestId: "1" }],
  ["cart_etag", { ...request, cartEtag: "" }],
  ["cart_etag", { ...request, cartEtag: "\0" }],
  ["payment_token", { ...request, paymentToken: "" }],
  ["payment_token", { ...request, paymentToken: "4111 1111" }],
  ["payment_token", { ...request, paymentToken: "x".repeat(201) }],
  ["shipping_address", { ...request, shippingAddress: undefined as never }],
  ["shipping_address.name", { ...request, shippingAddress: { ...address, name: "" } }],
  ["shipping_address.name", { ...request, shippingAddress: { ...address, name: "A\nBcc: b@example.org" } }],
  ["shipping_address.street", { ...request, shippingAddress: { ...address, street: "x".repeat(201) } }],
  ["shipping_address.city", { ...request, shippingAddress: { ...address, city: "" } }],
  ["shipping_address.country_code", { ...request, shippingAddress: { ...address, countryCode: "Germany" } }],
  ["shipping_address.email", { ...request, shippingAddress: { ...address, email: "alice" } }],
  ["shipping_address.email", { ...request, shippingAddress: { ...address, email: "a@example.org\r\nBcc: b@example.org" } }],
  ["expected_total", { ...request, expectedTotal: undefined as never }],
  ["expected_total.currency_code", { ...request, expectedTotal: { currencyCode: "euro", minorUnits: 1n } }],
])("a wrong %s is told (%#)", async (field, given) => {
  const { client, alice } = await openOrders();
  const error = await failureOf(client.placeOrder(given, alice));
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field).toBe(field);
});

test.each(["getOrder", "cancelOrder", "markShipped", "retryOrder"] as const)("%s takes no id that is no UUID", async (method) => {
  const { client, alice, staff } = await openOrders();
  const as = method === "markShipped" || method === "retryOrder" ? staff : alice;
  expect((await failureOf(client[method]({ orderId: "1" }, as))).code).toBe(Code.InvalidArgument);
});
