// Prints orders a second, and the time from PlaceOrder to CONFIRMED, through the gateway with 32
// customers, in one process and split, in turns; commits and rpcs of an order; and beside it the
// durable commits that the same Postgres takes.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { embeddedUrl } from "@parley/chassis/data/embedded-postgres.ts";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { OrderState, OrdersService } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { Pool } from "pg";
import { services } from "../services/all.ts";
import { optionsFor, postgresPids, query, type Suite, setStock, shopOf, startSuite } from "../tests/suite.ts";
import { shown } from "./shown.ts";

const customers = 32;
const rounds = 3;
/** Orders of a round, and how many of them come before what is measured. */
const ordersEach = 1_024;
const warmUps = 256;
/** Connections that commit at once, to see what the disk takes. */
const committers = 16;
const productIds = ["marble-run", "chess-set", "desk-lamp", "camp-stove", "chili-oil", "bird-feeder", "wool-blanket", "rain-jacket"];

interface Round {
  readonly ordersPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly commits: number;
  readonly calls: number;
  readonly durableCommits: number;
  /** CPU time of an order, in milliseconds, by who takes it. */
  readonly servicesMs: number;
  readonly postgresMs: number;
  readonly customersMs: number;
}

const results: Record<string, Round[]> = { "one process": [], split: [] };
for (let round = 0; round < rounds; round++) {
  for (const [name, some] of Object.entries(results)) some.push(await measure(name === "split" ? ["--split"] : []));
}
for (const [name, some] of Object.entries(results)) {
  const of = (key: keyof Round, digits = 0): string =>
    shown(
      some.map((one) => one[key]),
      digits,
    );
  console.log(`${name}: ${of("ordersPerSecond")} orders a second, PlaceOrder to CONFIRMED p50 ${of("p50Ms")} ms, p99 ${of("p99Ms")} ms`);
  console.log(
    `  CPU of an order: services ${of("servicesMs", 1)} ms, Postgres ${of("postgresMs", 1)} ms, customers ${of("customersMs", 1)} ms`,
  );
  console.log(
    `  an order: ${of("commits", 1)} commits, ${of("calls", 1)} rpcs; the same Postgres alone: ${of("durableCommits")} commits a second`,
  );
}

async function measure(args: readonly string[]): Promise<Round> {
  const suite = await startSuite({ args, env: { PARLEY_LOG_LEVEL: "warn" } });
  try {
    await setStock(shopOf(suite), Object.fromEntries(productIds.map((productId) => [productId, 1_000_000])));
    const shoppers: (() => Promise<number>)[] = [];
    for (let index = 0; index < ordersEach; index += customers) {
      const some = Array.from({ length: customers }, (_, offset) => openShopper(suite, `customer-${index + offset}`));
      shoppers.push(...(await Promise.all(some)));
    }
    await run(shoppers.splice(0, warmUps));
    const isSplit = args.length > 0;
    const before = { commits: await commitsOf(suite), ...(await metricsOf(suite, isSplit)), postgresMs: await postgresCpuMs(suite) };
    const own = process.cpuUsage();
    const startedMs = performance.now();
    const times = (await run(shoppers)).toSorted((a, b) => a - b);
    const seconds = (performance.now() - startedMs) / 1_000;
    const { user, system } = process.cpuUsage(own);
    await delay(1_000); // until the consumers have read all
    const after = { commits: await commitsOf(suite), ...(await metricsOf(suite, isSplit)), postgresMs: await postgresCpuMs(suite) };
    return {
      ordersPerSecond: times.length / seconds,
      p50Ms: times[Math.floor(times.length * 0.5)] ?? 0,
      p99Ms: times[Math.floor(times.length * 0.99)] ?? 0,
      commits: (after.commits - before.commits) / times.length,
      calls: (after.calls - before.calls) / times.length,
      servicesMs: (after.servicesMs - before.servicesMs) / times.length,
      postgresMs: (after.postgresMs - before.postgresMs) / times.length,
      customersMs: (user + system) / 1_000 / times.length,
      durableCommits: await durableCommits(suite),
    };
  } finally {
    await suite.stop();
  }
}

/** Lets all order, so many at once; returns how long each took, from the call to its answer, in milliseconds. */
async function run(shoppers: (() => Promise<number>)[]): Promise<number[]> {
  const waiting = [...shoppers];
  const times: number[] = [];
  await Promise.all(
    Array.from({ length: customers }, async () => {
      for (let order = waiting.shift(); order !== undefined; order = waiting.shift()) times.push(await order());
    }),
  );
  return times;
}

/** A customer who orders once: their cart is filled beforehand, and the order is what is measured. */
async function openShopper(suite: Suite, customerId: string): Promise<() => Promise<number>> {
  const transport = createConnectTransport({ baseUrl: suite.gatewayUrl });
  const carts = createClient(CartsService, transport);
  const orders = createClient(OrdersService, transport);
  const options = await optionsFor(suite, customerId, "customer");
  const productId = productIds[Math.floor(Math.random() * productIds.length)] ?? "";
  const { cart } = await carts.addItem({ productId, quantity: 1, requestId: randomUUID() }, options);
  if (cart?.total === undefined) throw new Error("the cart is empty");
  const shippingAddress = { name: "A", street: "B 1", postalCode: "1", city: "C", countryCode: "DE", email: "a@example.org" };
  const request = {
    requestId: randomUUID(),
    cartEtag: cart.etag,
    shippingAddress,
    paymentToken: "tok_approved",
    expectedTotal: cart.total,
  };
  return async () => {
    const startedMs = performance.now();
    let { order } = await orders.placeOrder(request, options);
    // One that takes longer than PlaceOrder waits.
    for await (const change of order?.state === OrderState.PENDING ? orders.watchOrder({ orderId: order.orderId }, options) : []) {
      order = change.order;
      if (order?.state !== OrderState.PENDING) break;
    }
    if (order?.state !== OrderState.CONFIRMED) throw new Error(`an order is ${order?.state}, not confirmed`);
    return performance.now() - startedMs;
  };
}

/** Transactions that wrote something, by the ids that they were given. */
async function commitsOf({ dataDir }: Suite): Promise<number> {
  const [row] = await query<{ next: string }>(dataDir, "orders", "SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next");
  return Number(row?.next);
}

/** Calls that all services have answered, event logs aside, and the CPU time of services and gateway, in milliseconds. */
async function metricsOf(suite: Suite, isSplit: boolean): Promise<{ calls: number; servicesMs: number }> {
  const first = Number(new URL(suite.adminUrl).port);
  const ports = Array.from({ length: isSplit ? Object.keys(services).length + 1 : 1 }, (_, index) => first + index);
  const texts = await Promise.all(ports.map(async (port) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()));
  const counts = texts.flatMap((text) => [
    ...text.matchAll(
      /^rpc_server_call_duration_seconds_count\{service_name="(?!gateway)[^"]*",rpc_method="parley\.(?!events)[^}]*\} (\d+)/gm,
    ),
  ]);
  const seconds = texts.flatMap((text) =>
    [...text.matchAll(/^process_cpu_time_seconds_total\{[^}]*\} ([\d.]+)/gm)].map(([, one]) => Number(one)),
  );
  return {
    calls: counts.reduce((sum, [, count]) => sum + Number(count), 0),
    servicesMs: seconds.reduce((sum, one) => sum + one * 1_000, 0),
  };
}

/** The CPU time of Postgres, in milliseconds, by Linux's proc(5): ticks of 10 ms. */
async function postgresCpuMs(suite: Suite): Promise<number> {
  const ticks = (await postgresPids(suite)).map((pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return Number(fields[11]) + Number(fields[12]);
  });
  return ticks.reduce((sum, one) => sum + one * 10, 0);
}

/** What the disk takes: single-row inserts, each its own commit. */
async function durableCommits(suite: Suite): Promise<number> {
  const pool = new Pool({ connectionString: embeddedUrl(suite.dataDir, "orders"), max: committers });
  pool.on("error", () => {}); // Postgres may end before it
  await pool.query("CREATE TABLE bench (number int8)");
  let done = 0;
  const startedMs = performance.now();
  await Promise.all(
    Array.from({ length: committers }, async () => {
      for (; performance.now() - startedMs < 2_000; done++) await pool.query("INSERT INTO bench VALUES (1)");
    }),
  );
  const perSecond = (done * 1_000) / (performance.now() - startedMs);
  await pool.end();
  return perSecond;
}
