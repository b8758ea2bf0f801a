import type { EventLog } from "@parley/chassis/data/event-log.ts";
import {
  type Order,
  OrderCancelledSchema,
  OrderConfirmedSchema,
  OrderPlacedSchema,
  OrderRejectedSchema,
  OrderShippedSchema,
  OrderState,
} from "@parley/gen/parley/orders/v1/orders_pb.js";
import type { QueryExecutorProvider, Transaction } from "kysely";
import { createStore, type Store, type Tables } from "./store.ts";

/** Brings an order from one state to another, and announces it; returns undefined where that writes nothing. */
export async function transition(
  eventLog: EventLog,
  tx: Transaction<Tables>,
  orderId: string,
  change: Parameters<Store["move"]>[1],
): Promise<Order | undefined> {
  const order = await createStore(tx).move(orderId, change);
  if (order !== undefined) await announce(eventLog, tx, order);
  return order;
}

/** Appends the event that an order has come to its state, if there is one, as the last statement of the transaction that brought it there. */
export async function announce(eventLog: EventLog, tx: QueryExecutorProvider, order: Order): Promise<void> {
  const events = [{ subject: order.orderId, payload: { order } }];
  switch (order.state) {
    case OrderState.PENDING:
      return eventLog.append(tx, OrderPlacedSchema, events);
    case OrderState.CONFIRMED:
      return eventLog.append(tx, OrderConfirmedSchema, events);
    case OrderState.REJECTED:
      return eventLog.append(tx, OrderRejectedSchema, [{ subject: order.orderId, payload: { order, reason: order.rejectReason } }]);
    case OrderState.CANCELLED:
      return eventLog.append(tx, OrderCancelledSchema, events);
    case OrderState.SHIPPED:
      return eventLog.append(tx, OrderShippedSchema, events);
    default: // on its way to one of them
      return undefined;
  }
}
