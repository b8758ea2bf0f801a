import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { scrape } from "@parley/chassis/telemetry/telemetry.ts";
import { testTelemetry } from "@parley/chassis/testing/telemetry.ts";
import { OrderSchema, OrderState } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { expect, test } from "vitest";
import { createOrderMetrics } from "./order-metrics.ts";

test("orders are counted by the states that they come to, and those that are stuck when somebody looks", async () => {
  const telemetry = testTelemetry();
  let stuck = 3;
  const metrics = createOrderMetrics(telemetry, async () => stuck);
  metrics.changed(create(OrderSchema, { state: OrderState.PENDING }));
  metrics.changed(create(OrderSchema, { state: OrderState.REJECTED }));
  const text = await scrape(telemetry.registry);
  expect(text).toContain('parley_orders_total{state="PENDING"} 1');
  expect(text).toContain('parley_orders_total{state="REJECTED"} 1');
  expect(text).toContain('parley_orders_total{state="SHIPPED"} 0');
  expect(text).toContain("parley_orders_stuck 3");
  stuck = 0;
  expect(await scrape(telemetry.registry)).toContain("parley_orders_stuck 0");
});

test("the time to confirm an order is that between the first and the last entry of its history", async () => {
  const telemetry = testTelemetry();
  const history = [
    { state: OrderState.PENDING, time: timestampFromMs(1_000) },
    { state: OrderState.CONFIRMED, time: timestampFromMs(1_400) },
  ];
  createOrderMetrics(telemetry, async () => 0).changed(create(OrderSchema, { state: OrderState.CONFIRMED, history }));
  const text = await scrape(telemetry.registry);
  expect(text).toContain('parley_order_confirm_duration_seconds_bucket{le="0.25"} 0');
  expect(text).toContain('parley_order_confirm_duration_seconds_bucket{le="0.5"} 1');
});

test("what cannot be asked is not known", async () => {
  const telemetry = testTelemetry();
  createOrderMetrics(telemetry, () => Promise.reject(new Error("no database")));
  expect(await scrape(telemetry.registry)).toContain("parley_orders_stuck Nan");
});
