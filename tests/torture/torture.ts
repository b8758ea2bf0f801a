import { createRandom } from "@parley/chassis/testing/random.ts";
import { OrderState } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { setStock, shopOf, startSuite } from "../suite.ts";
import { checks, type Quantities } from "./checks.ts";
import { createJournal, shop } from "./customers.ts";
import { type Fault, injectFaults } from "./faults.ts";
import { takeSnapshot, waitForQuiet } from "./snapshot.ts";

const customers = 32;
/** How many there are of each product: two are scarce. */
const putIn: Quantities = {
  kite: 40,
  "tin-robot": 150,
  ...Object.fromEntries(
    ["marble-run", "chess-set", "desk-lamp", "camp-stove", "chili-oil", "bird-feeder", "wool-blanket", "rain-jacket"].map((id) => [
      id,
      50_000,
    ]),
  ),
};

/** What a run came to. */
export interface Report {
  readonly seed: number;
  readonly seconds: number;
  readonly orders: Readonly<Record<string, number>>;
  readonly calls: number;
  /** Calls whose outcome the customer did not learn, and repeated, or that were refused. */
  readonly failures: number;
  /** By victim and kind. */
  readonly faults: Readonly<Record<string, number>>;
  /** From a fault to the first order placed after it that was confirmed. */
  readonly recoveryMs: { readonly median: number; readonly max: number };
  /** From the last fault to the moment when nothing was left to be done. */
  readonly quietMs: number;
  readonly violations: readonly string[];
}

export interface TortureOptions {
  readonly seconds: number;
  readonly seed: number;
  /** How long after the last fault everything may take to come to its end. Default: 60. */
  readonly patienceSeconds?: number;
  /** The script that starts the suite. Default: that of `npm start`. */
  readonly script?: string;
}

/**
 * Runs the suite, each part a process, with customers who order through the gateway while processes
 * are killed and frozen; waits until nothing is left to be done, and checks what the databases say.
 */
export async function torture({ seconds, seed, patienceSeconds = 60, script }: TortureOptions): Promise<Report> {
  const patienceMs = patienceSeconds * 1_000;
  const suite = await startSuite({
    args: ["--split", "--replicas", "orders=2,payments=2"],
    env: { PARLEY_LOG_LEVEL: "error" },
    ...(script !== undefined && { script }),
  });
  try {
    const at = shopOf(suite);
    await setStock(at, putIn);
    const journal = createJournal();
    const enough = AbortSignal.timeout(seconds * 1_000);
    const over = new AbortController();
    const shopping = Array.from({ length: customers }, (_, index) =>
      shop({
        at,
        customerId: `customer-${index + 1}`,
        productIds: Object.keys(putIn) as [string, ...string[]],
        random: createRandom(seed * 1_000 + index),
        journal,
        enough,
        over: over.signal,
      }),
    );
    const faults = await injectFaults(suite, { random: createRandom(seed), enough });
    const lastFaultMs = performance.now();
    const giveUp = setTimeout(() => over.abort(new Error("a customer waited for too long")), patienceMs);
    const outcomes = await Promise.allSettled(shopping);
    clearTimeout(giveUp);
    const isQuiet = await waitForQuiet(at, lastFaultMs + patienceMs);
    const quietAtMs = performance.now();
    const snapshot = await takeSnapshot(at, { told: journal.told, putIn, carts: journal.carts });
    const counts = Object.entries(Object.groupBy(snapshot.orders, ({ state }) => state));
    return {
      seed,
      seconds,
      orders: Object.fromEntries(counts.map(([state, some]) => [state, some?.length ?? 0])),
      calls: journal.calls,
      failures: journal.failures,
      faults: countFaults(faults),
      recoveryMs: recoveryOf(faults, journal.placed),
      quietMs: Math.round(quietAtMs - lastFaultMs),
      violations: [
        ...outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [`a customer gave up: ${outcome.reason}`] : [])),
        ...(isQuiet ? [] : [`it is not quiet ${patienceSeconds} s after the last fault`]),
        ...journal.surprises.map((text) => `a customer was told: ${text}`),
        ...Object.entries(checks).flatMap(([name, check]) => check(snapshot).map((text) => `${name}: ${text}`)),
      ],
    };
  } finally {
    await suite.stop();
  }
}

function countFaults(faults: readonly Fault[]): Record<string, number> {
  const counts = Object.entries(Object.groupBy(faults, ({ victim, kind }) => `${victim} ${kind}`));
  return Object.fromEntries(counts.map(([name, some]) => [name, some?.length ?? 0] as const).toSorted());
}

function recoveryOf(
  faults: readonly Fault[],
  placed: readonly { readonly startedMs: number; readonly settledMs: number; readonly state: OrderState }[],
): Report["recoveryMs"] {
  const confirmed = placed.filter(({ state }) => state === OrderState.CONFIRMED);
  const times = faults
    .flatMap(({ atMs }) => {
      const after = confirmed.filter(({ startedMs }) => startedMs > atMs).map(({ settledMs }) => settledMs - atMs);
      return after.length === 0 ? [] : [Math.round(Math.min(...after))];
    })
    .toSorted((a, b) => a - b);
  return { median: times[Math.floor(times.length / 2)] ?? 0, max: times.at(-1) ?? 0 };
}
