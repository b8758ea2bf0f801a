import { readFileSync } from "node:fs";
import { Agent } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { type Arena, callers, timeUntil } from "./arena.ts";
import { type Answer, ask, type LoadRequest, quantile, startLoad } from "./load.ts";
import { finding, ms, percent, type Scenario, successes } from "./scenarios.ts";

/** Of a hundred requests in the mix of an overload. */
const mix = { page: 60, read: 38, checkout: 2 };
/** How many clients are needed to keep the suite busy. */
const clients = 48;
const capacityMs = 6_000;
const overloadMs = 12_000;
/** An answer that takes longer, in milliseconds, is none: the deadline of pages and reads. */
const inTimeMs = 2_000;
/** Of an overload, the time that the suite has to adapt, which is not counted. */
const adaptMs = 2_000;

/** More load than can be carried, of calls on which different things depend. */
export const overload: Scenario = {
  name: "3 times more load than the suite can carry",
  async run(arena) {
    const { gatewayUrl } = arena.suite;
    const normalMs = quantile(
      arena.since(performance.now() - 5_000, "read").map(({ durationMs }) => durationMs),
      0.95,
    );
    const checkouts = await arena.prepareCheckouts(500);
    const next = createMix(checkouts);
    const peak = Math.max(await capacityOf(gatewayUrl, next), await capacityOf(gatewayUrl, next));
    await delay(3_000);
    const memoryBefore = await memoryOf(arena);
    const load = startLoad(gatewayUrl, [{ perSecond: 3 * peak, next }]);
    let mostMemory = 0;
    const startedMs = performance.now();
    while (performance.now() - startedMs < overloadMs) {
      await delay(1_000);
      mostMemory = Math.max(mostMemory, await memoryOf(arena));
    }
    const endedMs = performance.now();
    await load.stop();
    const answers = load.answers.filter(({ startedMs: atMs }) => atMs > startedMs + adaptMs && atMs < endedMs - 500);
    const inTime = answers.filter(({ status, durationMs }) => status === 200 && durationMs < inTimeMs);
    const goodput = inTime.length / ((endedMs - startedMs - adaptMs - 500) / 1_000);
    const placed = answers.filter(({ name }) => name === "checkout");
    const pages = answers.filter(({ name }) => name === "page");
    const calmMs = await timeUntil(async () => {
      await delay(400);
      const recent = arena.since(performance.now() - 1_000, "read");
      return (
        recent.length > 5 &&
        quantile(
          recent.map(({ durationMs }) => durationMs),
          0.95,
        ) < Math.max(2 * normalMs, 50)
      );
    }, 10_000);
    return [
      finding(
        "goodput at least 90 % of the peak",
        `${goodput.toFixed(0)} of ${peak.toFixed(0)} answers/s, ${percent(goodput / peak)}`,
        goodput >= 0.9 * peak,
      ),
      finding("99 % of checkouts succeed", `${successes(placed)} of ${placed.length}`, successes(placed) >= 0.99 * placed.length),
      finding("while pages are refused", `${refusals(pages)} of ${pages.length}`, refusals(pages) > pages.length / 10),
      finding("normal latency again in 5 s", ms(calmMs), calmMs !== undefined && calmMs < 5_000),
      finding("memory bounded", `${memoryBefore} MiB before, ${mostMemory} MiB at most`, mostMemory < 2 * memoryBefore),
    ];
  },
};

function refusals(answers: readonly Answer[]): number {
  return answers.filter(({ status }) => status === 429).length;
}

function createMix(checkouts: LoadRequest[]): () => LoadRequest {
  const kinds = Object.entries(mix).flatMap(([name, count]) => Array.from({ length: count }, () => name));
  let index = 0;
  return () => {
    index = (index + 37) % kinds.length; // 37 and 100 have no common factor: each kind comes evenly
    const checkout = kinds[index] === "checkout" ? checkouts.shift() : undefined;
    if (checkout !== undefined) return checkout;
    return kinds[index] === "page" ? { name: "page", path: "/v1/pages/products/kite" } : { name: "read", path: "/v1/stock/kite" };
  };
}

/** Returns how many requests a second are answered well when each client waits for its answer. */
async function capacityOf(gatewayUrl: string, next: () => LoadRequest): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  const untilMs = performance.now() + capacityMs;
  const answers: Answer[] = [];
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (performance.now() < untilMs) answers.push(await ask(gatewayUrl, next(), agent));
    }),
  );
  agent.destroy();
  return successes(answers) / (capacityMs / 1_000);
}

/** Returns the memory that is resident of all services and the gateway, in MiB, by Linux's proc(5). */
async function memoryOf(arena: Arena): Promise<number> {
  const pids = callers.flatMap((name) => arena.partsOf(name).map(({ pid }) => pid));
  const kibibytes = pids.map((pid) => {
    try {
      return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
    } catch {
      return 0; // it was started again
    }
  });
  return Math.round(kibibytes.reduce((sum, one) => sum + one, 0) / 1_024);
}
