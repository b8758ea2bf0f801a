import { type EventHandler, onEvent } from "@parley/chassis/data/consumer.ts";
import { onCommit } from "@parley/chassis/data/database.ts";
import type { Event } from "@parley/gen/parley/events/v1/events_pb.js";
import {
  type Order,
  OrderCancelledSchema,
  OrderConfirmedSchema,
  OrderRejectedSchema,
  OrderShippedSchema,
} from "@parley/gen/parley/orders/v1/orders_pb.js";
import type { Transaction } from "kysely";
import { writeMessage } from "./notification.ts";
import { createStore, type Tables } from "./store.ts";

/** Writes a notification for each order that is confirmed, rejected, cancelled or shipped; `wakeDelivery` undefined: it is kept. */
export function createEventHandlers(wakeDelivery: (() => void) | undefined): EventHandler<Tables>[] {
  const write = async (tx: Transaction<Tables>, { order }: { order?: Order | undefined }, event: Event): Promise<void> => {
    if (order?.shippingAddress === undefined) throw new Error("the event tells no order, or not where it goes");
    const { orderId, customerId, shippingAddress } = order;
    const notification = { notificationId: event.eventId, customerId, orderId, email: shippingAddress.email, ...writeMessage(order) };
    await createStore(tx).insert(notification, wakeDelivery === undefined ? "KEPT" : "PENDING");
    if (wakeDelivery !== undefined) onCommit(tx, wakeDelivery);
  };
  return [
    onEvent(OrderConfirmedSchema, write),
    onEvent(OrderRejectedSchema, write),
    onEvent(OrderCancelledSchema, write),
    onEvent(OrderShippedSchema, write),
  ];
}
