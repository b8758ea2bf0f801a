import { readFileSync } from "node:fs";
import { Agent } from "node:http";
import { availableParallelism } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { type Arena, callers, timeUntil } from "./arena.ts";
import { type Answer, ask, type LoadRequest, quantile, startLoad } from "./load.ts";
import { finding, ms, percent, type Scenario, successes } from "./scenarios.ts";

/** Of a hundred requests in the mix of an overload. */
const mix = { page: 60, read: 38, checkout: 2 };
type Kind = keyof typeof mix;
const kinds: readonly Kind[] = ["page", "read", "checkout"];
/** How many clients are needed to keep the suite busy. */
const clients = 48;
const capacityMs = 4_000;
const overloadMs = 12_000;
/** An answer that takes longer, in milliseconds, is none: their deadlines. */
const inTimeMs = { page: 2_000, read: 2_000, checkout: 5_000 };
/** Of an overload, the time that the suite has to adapt, which is not counted. */
const adaptMs = 2_000;
/** Carts that are filled before: more than can be ordered. */
const carts = 1_500;

/** Good answers a second, of each kind. */
type Rates = Readonly<Record<Kind, number>>;

interface Measured {
  readonly rates: Rates;
  /** Of the machine's processor time, the share that this process did not take. */
  readonly leftShare: number;
}

/**
 * More load than can be carried, of calls on which different things depend. What is critical takes a larger part of what is done than of what
 * was asked for, and costs more: an answer counts as much as its kind costs, by how many of it alone can be given. Who makes the load takes
 * processor time away from the suite: goodput is for each second of it that is left.
 */
export const overload: Scenario = {
  name: "3 times more load than the suite can carry",
  async run(arena) {
    const { gatewayUrl } = arena.suite;
    const normalMs = quantile(
      arena.since(performance.now() - 5_000, "read").map(({ durationMs }) => durationMs),
      0.95,
    );
    const requests = createRequests(await arena.prepareCheckouts(carts));
    const alone: Record<Kind, number> = { page: 0, read: 0, checkout: 0 };
    for (const kind of kinds) {
      await saturate(gatewayUrl, requests[kind]); // for the compiler
      alone[kind] = (await saturate(gatewayUrl, requests[kind])).rates[kind];
    }
    const goodputOf = ({ rates, leftShare }: Measured): number =>
      kinds.reduce((sum, kind) => sum + rates[kind] / alone[kind], 0) / leftShare;
    const next = createMix(requests);
    const before = await saturate(gatewayUrl, next);
    await delay(3_000);
    const memoryBefore = await memoryOf(arena);
    const peak = kinds.reduce((sum, kind) => sum + before.rates[kind], 0);
    const leftShare = measureLeft();
    const load = startLoad(gatewayUrl, [{ perSecond: 3 * peak, next }]);
    let mostMemory = 0;
    const startedMs = performance.now();
    while (performance.now() - startedMs < overloadMs) {
      await delay(1_000);
      mostMemory = Math.max(mostMemory, await memoryOf(arena));
    }
    const endedMs = performance.now();
    const left = leftShare();
    await load.stop();
    const answers = load.answers.filter(({ startedMs: atMs }) => atMs > startedMs + adaptMs && atMs < endedMs - 500);
    const good = { rates: ratesOf(answers, endedMs - startedMs - adaptMs - 500), leftShare: left };
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
    const after = await saturate(gatewayUrl, next);
    const share = goodputOf(good) / ((goodputOf(before) + goodputOf(after)) / 2);
    return [
      finding(
        "goodput at least 90 % of the peak",
        `${percent(share)}: ${told(good.rates)} a second; before ${told(before.rates)}, after ${told(after.rates)}; alone ${told(alone)}`,
        share >= 0.9,
      ),
      finding("99 % of checkouts succeed", `${successes(placed)} of ${placed.length}`, successes(placed) >= 0.99 * placed.length),
      finding("while pages are refused", `${refusals(pages)} of ${pages.length}`, refusals(pages) > pages.length / 3),
      finding("normal latency again in 5 s", ms(calmMs), calmMs !== undefined && calmMs < 5_000),
      finding("memory bounded", `${memoryBefore} MiB before, ${mostMemory} MiB at most`, mostMemory < 2 * memoryBefore),
    ];
  },
};

function told(rates: Rates): string {
  return kinds.map((kind) => `${rates[kind].toFixed(0)} ${kind}s`).join(", ");
}

function refusals(answers: readonly Answer[]): number {
  return answers.filter(({ status }) => status === 429).length;
}

function createRequests(checkouts: LoadRequest[]): Readonly<Record<Kind, () => LoadRequest>> {
  return {
    page: () => ({ name: "page", path: "/v1/pages/products/kite" }),
    read: () => ({ name: "read", path: "/v1/stock/kite" }),
    checkout() {
      const one = checkouts.shift();
      if (one === undefined) throw new Error("too few carts were filled");
      return one;
    },
  };
}

function createMix(requests: Readonly<Record<Kind, () => LoadRequest>>): () => LoadRequest {
  const hundred = kinds.flatMap((kind) => Array.from({ length: mix[kind] }, () => kind));
  let index = 0;
  return () => {
    index = (index + 37) % hundred.length; // 37 and 100 have no common factor: each kind comes evenly
    return requests[hundred[index] ?? "page"]();
  };
}

/** Returns what is answered while each client waits for its answer. */
async function saturate(gatewayUrl: string, next: () => LoadRequest): Promise<Measured> {
  const leftShare = measureLeft();
  const agent = new Agent({ keepAlive: true, maxSockets: clients });
  const untilMs = performance.now() + capacityMs;
  const answers: Answer[] = [];
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (performance.now() < untilMs) answers.push(await ask(gatewayUrl, next(), agent));
    }),
  );
  agent.destroy();
  return { rates: ratesOf(answers, capacityMs), leftShare: leftShare() };
}

/** Returns what returns the share of the machine's processor time that this process has not taken since. */
function measureLeft(): () => number {
  const [startedMs, before] = [performance.now(), process.cpuUsage()];
  return () => {
    const { user, system } = process.cpuUsage(before);
    return 1 - (user + system) / 1_000 / (performance.now() - startedMs) / availableParallelism();
  };
}

function ratesOf(answers: readonly Answer[], ms: number): Rates {
  const isGood = ({ status, durationMs }: Answer, kind: Kind): boolean => status === 200 && durationMs < inTimeMs[kind];
  const rateOf = (kind: Kind): number => answers.filter((answer) => answer.name === kind && isGood(answer, kind)).length / (ms / 1_000);
  return { page: rateOf("page"), read: rateOf("read"), checkout: rateOf("checkout") };
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
