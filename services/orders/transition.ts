import { onCommit } from "@parley/chassis/data/database.ts";
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
import type { OrderMetrics } from "./order-metrics.ts";
import { createStore, type Store, type Tables } from "./store.ts";

/** Brings orders from one state to another, and tells of it. */
export interface Transitions {
  /** Returns undefined where that writes nothing. */
  move(tx: Transaction<Tables>, orderId: string, change: Parameters<Store["move"]>[1]): Promise<Order | undefined>;
  /** Counts that an order has come to its state, and appends the event of it, if there is one, as the last statement of the transaction that brought it there. */
  announce(tx: Transaction<Tables>, order: Order): Promise<void>;
}

export function createTransitions(eventLog: EventLog, metrics: OrderMetrics): Transitions {
  async function announce(tx: Transaction<Tables>, order: Order): Promise<void> {
    onCommit(tx, () => metrics.changed(order));
    await append(eventLog, tx, order);
  }
  return {
    announce,
    async move(tx, orderId, change) {
      const order = await createStore(tx).move(orderId, change);
      if (order !== undefined) await announce(tx, order);
      return order;
    },
  };
}

async function append(eventLog: EventLog, tx: QueryExecutorProvider, order: Order): Promise<void> {
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
