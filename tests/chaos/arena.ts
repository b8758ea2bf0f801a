import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { makeDataDir } from "@parley/chassis/testing/data-dir.ts";
import { services } from "../../services/all.ts";
import type { Part } from "../../tools/split.ts";
import { openCustomer } from "../customer.ts";
import { type Shop, type Suite, setStock, shopOf, startSuite } from "../suite.ts";
import { type Fault, faultsVariable, writeFaults } from "./faults.ts";
import { type Answer, type Load, type LoadRequest, type Stream, startLoad } from "./load.ts";

const productId = "kite";
/** The steady load, in requests a second. */
const steady = { pages: 20, reads: 20, checkouts: 1 };

/** A suite with two replicas of each service under a steady load, in which things are broken. */
export interface Arena {
  readonly suite: Suite;
  readonly shop: Shop;
  readonly load: Load;
  /** The processes of a service. */
  partsOf(serviceName: string): Part[];
  /** Lets a service, or one replica of it, fail from now on; undefined: no more. */
  breakService(serviceName: string, fault: Fault | undefined, replica?: number): void;
  /** What has come back since, of requests of these names. */
  since(startMs: number, ...names: string[]): Answer[];
  /** The value of a metric of a service's processes, by their labels, summed. */
  sum(serviceName: string, metric: string, labels: Readonly<Record<string, string>>): Promise<number>;
  /** Returns requests that place orders, of carts that are filled now. */
  prepareCheckouts(count: number): Promise<LoadRequest[]>;
  /** The ids of all orders that were acknowledged to somebody. */
  readonly acknowledged: ReadonlySet<string>;
  stop(): Promise<void>;
}

/** Starts the suite and the load. `seconds`: for how long orders are placed at most. */
export async function openArena({
  seconds,
  dataDir = makeDataDir(),
}: {
  readonly seconds: number;
  readonly dataDir?: string;
}): Promise<Arena> {
  const removeData = (): void => rmSync(dataDir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  process.once("exit", removeData); // it may be told to stop while it starts
  const faultsFile = join(dataDir, "faults.json");
  let faults: Record<string, Fault> = {};
  writeFaults(faultsFile, faults);
  const suite = await startSuite({
    script: "tests/chaos/start.ts",
    env: {
      PARLEY_LOG_LEVEL: "warn",
      PARLEY_DATA_DIR: dataDir,
      PARLEY_GATEWAY_MAX_CALLS_PER_CLIENT: "10000",
      [faultsVariable]: faultsFile,
    },
  });
  const parts: Part[] = JSON.parse(suite.lines.find((line) => line.startsWith("[")) ?? "[]");
  const shop = shopOf(suite);
  await setStock(shop, { [productId]: 1_000_000 });
  let customers = 0;

  async function prepareCheckouts(count: number): Promise<LoadRequest[]> {
    const requests: LoadRequest[] = [];
    for (let done = 0; done < count; done += 16)
      requests.push(...(await Promise.all(Array.from({ length: Math.min(16, count - done) }, prepareCheckout))));
    return requests;
  }

  async function prepareCheckout(): Promise<LoadRequest> {
    const customer = await openCustomer(shop, `chaos-${++customers}`, { productId });
    const { headers, body } = customer.requestOf(await customer.fill(1));
    return { name: "checkout", path: "/v1/orders", method: "POST", headers, body };
  }

  const checkouts = await prepareCheckouts(seconds * steady.checkouts);
  const get = (name: string, path: string) => (): LoadRequest => ({ name, path });
  const streams: Stream[] = [
    { perSecond: steady.pages, next: get("page", `/v1/pages/products/${productId}`) },
    { perSecond: steady.reads, next: get("read", `/v1/stock/${productId}`) },
    { perSecond: steady.checkouts, next: () => checkouts.shift() },
  ];
  const load = startLoad(suite.gatewayUrl, streams);
  const acknowledged = new Set<string>();
  const partsOf = (serviceName: string): Part[] => parts.filter(({ name }) => name.split(" ")[0] === serviceName);
  return {
    suite,
    shop,
    load,
    partsOf,
    prepareCheckouts,
    get acknowledged() {
      for (const { name, status, text } of load.answers)
        if (name === "checkout" && status === 200) acknowledged.add(JSON.parse(text).orderId);
      return acknowledged;
    },
    breakService(serviceName, fault, replica) {
      const ports = partsOf(serviceName).map(({ port }) => String(port));
      const meant = replica === undefined ? ports : ports.slice(replica, replica + 1);
      faults = Object.fromEntries(Object.entries(faults).filter(([port]) => !ports.includes(port)));
      if (fault !== undefined) for (const port of meant) faults[port] = fault;
      writeFaults(faultsFile, faults);
    },
    since: (startMs, ...names) => load.answers.filter((answer) => answer.startedMs >= startMs && names.includes(answer.name)),
    async sum(serviceName, metric, labels) {
      const texts = await Promise.all(partsOf(serviceName).map(({ adminPort }) => metricsAt(adminPort)));
      return texts.reduce((sum, text) => sum + sumOf(text, metric, labels), 0);
    },
    async stop() {
      await load.stop();
      await suite.stop();
      removeData();
    },
  };
}

/** The names of all parts that call others. */
export const callers = [...Object.keys(services), "gateway"];

async function metricsAt(adminPort: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${adminPort}/metrics`, { signal: AbortSignal.timeout(3_000) }).catch(() => undefined);
  return response === undefined ? "" : response.text();
}

function sumOf(text: string, metric: string, labels: Readonly<Record<string, string>>): number {
  let sum = 0;
  for (const line of text.split("\n")) {
    if (!line.startsWith(`${metric}{`) && !line.startsWith(`${metric} `)) continue;
    if (Object.entries(labels).every(([name, value]) => line.includes(`${name}="${value}"`)))
      sum += Number(line.slice(line.lastIndexOf(" ")));
  }
  return sum;
}

/** Waits until a condition holds; returns after how long, in milliseconds, or undefined when it has not held in time. */
export async function timeUntil(condition: () => boolean | Promise<boolean>, atMostMs: number): Promise<number | undefined> {
  const startedMs = performance.now();
  while (performance.now() - startedMs < atMostMs) {
    if (await condition()) return performance.now() - startedMs;
    await delay(50);
  }
  return undefined;
}
