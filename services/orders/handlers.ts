import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Client, HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { customerIdOf, findOwner } from "@parley/chassis/auth/caller.ts";
import type { Database } from "@parley/chassis/data/database.ts";
import type { Worker } from "@parley/chassis/data/work.ts";
import { createId } from "@parley/chassis/id.ts";
import { findCurrentCall } from "@parley/chassis/rpc/current-call.ts";
import { loadPage } from "@parley/chassis/rpc/page.ts";
import type { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import type { CatalogService } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { ErrorReason, type Order, OrderState, type OrdersService, type PlaceOrderRequest } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { fail } from "./errors.ts";
import { assertCart, assertTotal, findNext, hashOf, isOpen, priceLines, stuckByDefault } from "./order.ts";
import type { OrderWatch } from "./order-watch.ts";
import { createStore, type Tables } from "./store.ts";
import type { Transitions } from "./transition.ts";

/** What is kept of a call's deadline to answer with the order as it is. */
const answerMarginMs = 250;

export function createHandlers({
  database,
  transitions,
  saga,
  watch,
  carts,
  catalog,
  waitMs,
}: {
  readonly database: Database<Tables>;
  readonly transitions: Transitions;
  readonly saga: Worker;
  readonly watch: OrderWatch;
  readonly carts: Client<typeof CartsService>;
  readonly catalog: Client<typeof CatalogService>;
  /** How long PlaceOrder and CancelOrder wait for the outcome. */
  readonly waitMs: number;
}): ServiceImpl<typeof OrdersService> {
  const store = createStore(database.db);

  /** Returns the order of a request that was made before. Throws `REQUEST_MISMATCH` where it was another one. */
  async function findRepeated(customerId: string, request: PlaceOrderRequest): Promise<Order | undefined> {
    const before = await store.findByRequest(customerId, request.requestId);
    if (before !== undefined && before.requestHash !== hashOf(request))
      throw fail(ErrorReason.REQUEST_MISMATCH, "request_id was used with other contents before: choose another one");
    return before?.order;
  }

  /** Places an order, which is this process's to work on. Throws the reason where it may not be. */
  async function place(customerId: string, request: PlaceOrderRequest): Promise<Order> {
    const { requestId, cartEtag, shippingAddress, paymentToken, expectedTotal } = request;
    if (shippingAddress === undefined) throw new Error("validation lets no request without an address through");
    const { cart } = await carts.getCart({});
    if (cart === undefined) throw new Error("carts answered without a cart");
    assertCart(cart, cartEtag);
    const productIds = cart.lines.map(({ productId }) => productId);
    const { products } = productIds.length === 0 ? { products: [] } : await catalog.batchGetProducts({ productIds });
    const { lines, total } = priceLines(cart, products);
    assertTotal(total, expectedTotal);
    const orderId = createId();
    const requestHash = hashOf(request);
    const order = await database.transaction(async (tx) => {
      const placed = await createStore(tx).insert(
        { orderId, customerId, requestId, requestHash, cartEtag, lines, total, shippingAddress, paymentToken },
        saga.firstLease(),
      );
      if (placed !== undefined) await transitions.announce(tx, placed);
      return placed;
    });
    if (order !== undefined) {
      saga.run(orderId);
      return order;
    }
    const other = await store.findByCart(customerId, cartEtag);
    const metadata = other === undefined ? {} : { orderId: other }; // it may have been rejected this moment
    throw fail(ErrorReason.CART_ALREADY_ORDERED, "this cart was ordered before: change it to order more", metadata);
  }

  /** Returns the order when the checkout has nothing left to do for it, or as it is when the time is up. */
  async function waitUntilSettled(order: Order): Promise<Order> {
    if (!isOpen(order.state)) return order;
    const { deadlineMs = Number.POSITIVE_INFINITY, signal } = findCurrentCall() ?? {};
    const leftMs = Math.min(waitMs, deadlineMs - performance.now() - answerMarginMs);
    const timeout = AbortSignal.timeout(Math.max(Math.floor(leftMs), 0));
    const ended = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
    return (await watch.wait(order, ({ state }) => !isOpen(state), ended)) ?? (await store.find(order.orderId)) ?? order;
  }

  /** Takes a decision on an order that nothing else decides upon meanwhile; returns it as it was where it may not be taken in its state. */
  async function decide(orderId: string, decision: "cancel" | "ship", context: HandlerContext): Promise<Order> {
    const order = await database.transaction(async (tx) => {
      const before = assertVisible(await createStore(tx).lock(orderId), orderId, context);
      const to = findNext(decision, before.state);
      const changed = to === undefined ? undefined : await transitions.move(tx, orderId, { from: before.state, to });
      return changed ?? before;
    });
    watch.changed(order);
    return order;
  }

  return {
    async placeOrder(request, context) {
      const customerId = customerIdOf(context, "");
      const before = await findRepeated(customerId, request);
      const order =
        before ??
        (await place(customerId, request).catch(async (error: unknown) => {
          // An equal call may have come in between, with which the cart has changed.
          const placed = await findRepeated(customerId, request);
          if (placed === undefined) throw error;
          return placed;
        }));
      return { order: await waitUntilSettled(order) };
    },

    async getOrder({ orderId }, context) {
      return { order: assertVisible(await store.find(orderId), orderId, context) };
    },

    async listOrders(page, context) {
      const customerId = findOwner(context);
      const { rows, nextPageToken } = await loadPage("orders", page, (query) => store.list({ ...query, customerId }));
      return { orders: rows.map(({ order }) => order), nextPageToken };
    },

    async cancelOrder({ orderId }, context) {
      const order = await decide(orderId, "cancel", context);
      const { state } = order;
      if (state === OrderState.SHIPPED) throw fail(ErrorReason.ORDER_SHIPPED, "the order has shipped: return it instead", { orderId });
      if (state === OrderState.REJECTING || state === OrderState.REJECTED)
        throw fail(ErrorReason.ORDER_REJECTED, "the order was rejected: nothing is kept of it", { orderId });
      saga.wake();
      return { order: await waitUntilSettled(order) };
    },

    async *watchOrder({ orderId }, context) {
      assertVisible(await store.find(orderId), orderId, context);
      for await (const order of watch.follow(orderId, context.signal)) yield { order };
    },

    async markShipped({ orderId }, context) {
      const order = await decide(orderId, "ship", context);
      if (order.state === OrderState.SHIPPED) return { order };
      const state = OrderState[order.state];
      throw fail(ErrorReason.ORDER_NOT_CONFIRMED, `the order is ${state}: do not ship it`, { orderId, state });
    },

    async listStuckOrders({ minAge, minAttempts }) {
      const query = {
        minAgeMs: minAge === undefined ? stuckByDefault.minAgeMs : durationMs(minAge),
        minAttempts: minAttempts === 0 ? stuckByDefault.minAttempts : minAttempts,
      };
      return { stuckOrders: await store.listStuck(query) };
    },

    async retryOrder({ orderId }, context) {
      const order = await store.makeDue(orderId);
      if (order === undefined) {
        assertVisible(await store.find(orderId), orderId, context);
        throw fail(ErrorReason.ORDER_IS_SETTLED, "nothing is left to be done for the order", { orderId });
      }
      saga.wake();
      return { order };
    },
  };
}

/** Returns the order where the caller may see it. Throws `ORDER_NOT_FOUND`: a customer is not told of others' orders. */
function assertVisible(order: Order | undefined, orderId: string, context: HandlerContext): Order {
  const owner = findOwner(context);
  if (order !== undefined && (owner === undefined || order.customerId === owner)) return order;
  throw fail(ErrorReason.ORDER_NOT_FOUND, `there is no order ${orderId}`, { orderId });
}
