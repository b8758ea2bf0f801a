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
import type { QueryExecutorProvider } from "kysely";

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
