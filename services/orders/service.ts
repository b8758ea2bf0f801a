import { duration } from "@parley/chassis/config.ts";
import { defineDatabase } from "@parley/chassis/data/database.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService } from "@parley/chassis/service.ts";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { CatalogService } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { InventoryService } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { OrdersService } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { PaymentsService } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { createPerform } from "./checkout.ts";
import { createHandlers } from "./handlers.ts";
import { stuckByDefault } from "./order.ts";
import { createOrderMetrics } from "./order-metrics.ts";
import { createOrderWatch } from "./order-watch.ts";
import { type SagaOptions, startSaga } from "./saga.ts";
import { createStore, type Tables } from "./store.ts";
import { createTransitions } from "./transition.ts";

export const ordersDatabase = defineDatabase<Tables>({ migrations: new URL("./migrations/", import.meta.url) });

/** What customers have ordered, from the cart to the door. Tests look into its saga, or hurry it. */
export const createOrders = (overrides: Pick<SagaOptions, "hook" | "leaseMs"> = {}) =>
  defineService({
    name: "orders",
    config: {
      PARLEY_ORDERS_WAIT: duration("2s", "Time that PlaceOrder and CancelOrder wait for the outcome"),
      PARLEY_ORDERS_CHECKOUT_TIMEOUT: duration("10m", "Time after which an order is rejected that is still pending", { atMost: "23h" }),
    },
    neighbours: { carts: [CartsService], catalog: [CatalogService], inventory: [InventoryService], payments: [PaymentsService] },
    withoutRetries: ["inventory", "payments"], // the saga repeats its calls itself
    database: ordersDatabase,
    start({ config, database, eventLog, client, log, telemetry }) {
      const timeoutMs = config.PARLEY_ORDERS_CHECKOUT_TIMEOUT;
      const perform = createPerform({
        inventory: client("inventory", InventoryService),
        payments: client("payments", PaymentsService),
        timeoutMs,
      });
      const store = createStore(database.db);
      const watch = createOrderWatch(store, log);
      const metrics = createOrderMetrics(telemetry, () => store.countStuck(stuckByDefault));
      const transitions = createTransitions(eventLog, metrics);
      const saga = startSaga({ database, transitions, watch, perform, timeoutMs, log, ...overrides });
      const handlers = createHandlers({
        database,
        transitions,
        saga,
        watch,
        carts: client("carts", CartsService),
        catalog: client("catalog", CatalogService),
        waitMs: config.PARLEY_ORDERS_WAIT,
      });
      return { handlers: [implement(OrdersService, handlers), implement(EventLogService, eventLog.handlers)], background: [saga] };
    },
  });

export const orders = createOrders();
