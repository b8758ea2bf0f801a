import { type EventHandler, onEvent } from "@parley/chassis/data/consumer.ts";
import { OrderConfirmedSchema } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { createStore, type Tables } from "./store.ts";

/** Takes out of a cart what was ordered of it, as far as it is still there. The cart has a new etag then: it can be ordered from again. */
export const eventHandlers: readonly EventHandler<Tables>[] = [
  onEvent(OrderConfirmedSchema, async (tx, { order }) => {
    if (order === undefined) throw new Error("the event tells no order");
    const store = createStore(tx);
    await store.touch(order.customerId); // first: nobody else changes the cart until we are done
    await store.subtract(order.customerId, order.lines);
  }),
];
