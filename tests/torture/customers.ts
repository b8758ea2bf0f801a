import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type CallOptions, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import type { Random } from "@parley/chassis/testing/random.ts";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { type Order, OrderState, OrdersService, RejectReason } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { testTokens } from "@parley/payments/simulated-processor.ts";
import type { Shop } from "../suite.ts";
import type { Quantities, Told } from "./checks.ts";

/** The time that a call may take, beyond which its outcome is unknown to the customer. */
const timeoutMs = 6_000;
const tryAgainMs = 100;

/** What customers do and see, for the checks and the report. */
export interface Journal {
  readonly told: Told[];
  /** What each customer's cart must hold, as far as they know. */
  readonly carts: Map<string, Quantities>;
  /** When an order was placed, and when it was seen settled, on performance.now()'s clock. */
  readonly placed: { readonly startedMs: number; readonly settledMs: number; readonly state: OrderState }[];
  /** Answers that should not be. */
  readonly surprises: string[];
  calls: number;
  failures: number;
}

export function createJournal(): Journal {
  return { told: [], carts: new Map(), placed: [], surprises: [], calls: 0, failures: 0 };
}

/** What a customer of the run is given. */
export interface CustomerOptions {
  /** Where they order. */
  readonly at: Shop;
  readonly customerId: string;
  readonly productIds: readonly [string, ...string[]];
  readonly random: Random;
  readonly journal: Journal;
  /** Fires when no more orders are to be placed. */
  readonly enough: AbortSignal;
  /** Fires when the run gives up. */
  readonly over: AbortSignal;
}

const address = { name: "Alice Example", street: "Main Street 1", postalCode: "12345", city: "Berlin", countryCode: "DE" };
/** Mostly those that work, and each of the others. */
const tokens: readonly [string, ...string[]] = ["tok_approved", ...Array<string>(12).fill("tok_approved"), ...Object.keys(testTokens)];

/** Fills a cart and orders it, again and again; repeats, watches and cancels as people and their programs do. */
export async function shop({ at, customerId, productIds, random, journal, enough, over }: CustomerOptions): Promise<void> {
  const options = await at.optionsFor(customerId, "customer");
  const staff = await at.optionsFor("staff", "staff");
  const transport = createConnectTransport({ baseUrl: at.gatewayUrl, defaultTimeoutMs: timeoutMs });
  const carts = createClient(CartsService, transport);
  const orders = createClient(OrdersService, transport);
  journal.carts.set(customerId, {});

  /** Calls until the outcome is known; returns undefined where the call is refused. */
  async function insist<T>(call: () => Promise<T>, refusals: readonly Code[] = []): Promise<T | undefined> {
    for (;;) {
      over.throwIfAborted();
      journal.calls++;
      try {
        return await call();
      } catch (error) {
        const { code, message } = ConnectError.from(error);
        journal.failures++;
        if (refusals.includes(code)) return undefined;
        // What nobody can help but wait for: processes are killed and frozen.
        const isExpected = [Code.Unavailable, Code.DeadlineExceeded, Code.Canceled, Code.Unknown].includes(code);
        if (!isExpected) journal.surprises.push(`${customerId}: ${message}`);
        await delay(tryAgainMs, undefined, { signal: over });
      }
    }
  }

  async function fillCart(): Promise<{ etag: string; total: Order["total"]; lines: number }> {
    for (let lines = random.between(1, 3); lines > 0; lines--) {
      const productId = random.pick(productIds);
      const request = { productId, quantity: random.between(1, 3), requestId: randomUUID() };
      const added = await insist(() => carts.addItem(request, options), [Code.FailedPrecondition]);
      if (added === undefined) continue; // more than 99 of it
      const before = journal.carts.get(customerId) ?? {};
      journal.carts.set(customerId, { ...before, [productId]: (before[productId] ?? 0) + request.quantity });
    }
    const answer = await insist(() => carts.getCart({}, options));
    return { etag: answer?.cart?.etag ?? "", total: answer?.cart?.total, lines: answer?.cart?.lines.length ?? 0 };
  }

  async function place(cart: Awaited<ReturnType<typeof fillCart>>): Promise<Order | undefined> {
    const request = {
      requestId: randomUUID(),
      cartEtag: cart.etag,
      shippingAddress: { ...address, email: `${customerId}@example.org` },
      paymentToken: random.pick(tokens),
      ...(cart.total && { expectedTotal: cart.total }),
    };
    const told: string[] = [];
    journal.told.push({ customerId, requestId: request.requestId, orderIds: told });
    const once = async (call: CallOptions = options): Promise<Order | undefined> => {
      const { order } = await orders.placeOrder(request, call);
      if (order !== undefined) told.push(order.orderId);
      return order;
    };
    // Some hang up and ask again, some click twice.
    if (random.chance(0.15)) await once({ ...options, timeoutMs: random.between(1, 60) }).catch(() => {});
    const twice = random.chance(0.15) ? insist(once, [Code.FailedPrecondition, Code.Aborted]) : undefined;
    const order = await insist(once, [Code.FailedPrecondition, Code.Aborted]);
    await twice;
    if (order !== undefined && random.chance(0.1)) await insist(once);
    return order;
  }

  async function settle({ orderId }: Order): Promise<Order> {
    if (random.chance(0.25)) await insist(() => orders.cancelOrder({ orderId }, options), [Code.FailedPrecondition]);
    for (;;) {
      if (random.chance(0.5)) await watch(orderId);
      const order = (await insist(() => orders.getOrder({ orderId }, options)))?.order;
      if (order !== undefined && ![OrderState.PENDING, OrderState.REJECTING, OrderState.CANCELLING].includes(order.state)) return order;
      await delay(tryAgainMs, undefined, { signal: over });
    }
  }

  /** Watches until the order is settled, or the stream breaks. */
  async function watch(orderId: string): Promise<void> {
    try {
      for await (const { order } of orders.watchOrder({ orderId }, options)) {
        if (order?.state !== OrderState.PENDING && order?.state !== OrderState.CANCELLING && order?.state !== OrderState.REJECTING) return;
      }
    } catch {} // it is asked for again
  }

  /** Waits until the cart shows what became of the order, then sometimes has the goods sent, or not after all. */
  async function conclude(order: Order): Promise<void> {
    const { orderId } = order;
    if (order.history.some(({ state }) => state === OrderState.CONFIRMED)) {
      const rest = { ...journal.carts.get(customerId) };
      for (const { productId, quantity } of order.lines) rest[productId] = Math.max((rest[productId] ?? 0) - quantity, 0);
      journal.carts.set(customerId, rest);
      for (;;) {
        const { cart } = (await insist(() => carts.getCart({}, options))) ?? {};
        if (cart?.etag !== order.cartEtag) break;
        await delay(tryAgainMs, undefined, { signal: over });
      }
    }
    // What is out of stock would be so the next time too.
    if (order.rejectReason === RejectReason.OUT_OF_STOCK) {
      await insist(() => carts.clearCart({}, options));
      journal.carts.set(customerId, {});
    }
    if (order.state !== OrderState.CONFIRMED) return;
    if (random.chance(0.3)) await insist(() => orders.markShipped({ orderId }, staff), [Code.FailedPrecondition]);
    else if (random.chance(0.2)) await insist(() => orders.cancelOrder({ orderId }, options), [Code.FailedPrecondition]);
  }

  while (!enough.aborted) {
    const cart = await fillCart();
    if (cart.lines === 0) continue;
    const startedMs = performance.now();
    const order = await place(cart);
    if (order === undefined) continue;
    const settled = await settle(order);
    journal.placed.push({ startedMs, settledMs: performance.now(), state: settled.state });
    await conclude(settled);
  }
}
