import { timestampMs } from "@bufbuild/protobuf/wkt";
import { onScrape, perRegistry, type Telemetry } from "@parley/chassis/telemetry/telemetry.ts";
import { type Order, OrderState } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { Counter, Gauge, Histogram } from "prom-client";

/** Upper bounds in seconds: from a checkout that nothing holds up to the longest that an order may be pending. */
const buckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600];

/** Counts orders by the states that they come to, and measures how long they take to be confirmed. */
export interface OrderMetrics {
  changed(order: Order): void;
}

/** Creates the metrics of orders; `countStuck` is asked whenever they are read. */
export function createOrderMetrics({ registry }: Telemetry, countStuck: () => Promise<number>): OrderMetrics {
  const { orders, confirmSeconds, stuck } = orderMetrics(registry);
  for (const state of states) orders.inc({ state }, 0); // what has never happened is 0, not unknown
  onScrape(registry, async () => stuck.set(await countStuck().catch(() => Number.NaN)));
  return {
    changed({ state, history }) {
      orders.inc({ state: OrderState[state] });
      const [placed, last] = [history[0]?.time, history.at(-1)?.time];
      if (state === OrderState.CONFIRMED && placed !== undefined && last !== undefined)
        confirmSeconds.observe((timestampMs(last) - timestampMs(placed)) / 1_000);
    },
  };
}

const states = Object.values(OrderState).filter((state) => typeof state === "string" && state !== "UNSPECIFIED");

const orderMetrics = perRegistry((registers) => ({
  orders: new Counter({ name: "parley_orders_total", help: "Orders, by the states that they came to.", labelNames: ["state"], registers }),
  confirmSeconds: new Histogram({
    name: "parley_order_confirm_duration_seconds",
    help: "Time from an order's placing to its confirmation.",
    buckets,
    registers,
  }),
  stuck: new Gauge({
    name: "parley_orders_stuck",
    help: "Orders on which the checkout has worked for more than a minute, or ten times.",
    registers,
  }),
}));
