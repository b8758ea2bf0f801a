import { setTimeout as delay } from "node:timers/promises";
import { partPids } from "../suite.ts";
import { type Arena, callers, timeUntil } from "./arena.ts";

import type { Answer } from "./load.ts";

/** What was promised, and what was measured. */
export interface Finding {
  readonly promise: string;
  readonly measured: string;
  readonly isKept: boolean;
}

/** Something that is broken in the suite, and what is promised meanwhile. */
export interface Scenario {
  readonly name: string;
  run(arena: Arena, times: Times): Promise<Finding[]>;
}

/** How long things are broken, in milliseconds. */
export interface Times {
  readonly brokenMs: number;
  /** How many times as long as promised things may take, and as many reads fail: 1, but more where the machine may be busy with something else. */
  readonly slack: number;
}

/** The service that fails, and whom its callers are without it. */
const victim = "inventory";
/** The longest deadline of the requests of the load, and what an answer may come later for its way. */
const deadlineMs = 2_000;
const marginMs = 400;
/** How soon a breaker must open, and close. */
const breakerMs = 5_000;

/** A neighbour as a whole that does not answer in time, or at all: broken by `start`, mended by `end`. */
function neighbourFails(name: string, start: (arena: Arena) => unknown, end: (arena: Arena) => unknown): Scenario {
  return {
    name,
    async run(arena, { brokenMs, slack }) {
      const normal = await loadOn(arena, () => delay(Math.min(brokenMs, 5_000)));
      const startedMs = performance.now();
      let openedMs: number | undefined;
      const broken = await loadOn(arena, async () => {
        await start(arena);
        openedMs = await timeUntil(() => isOpen(arena), breakerMs * slack + 3_000);
        await delay(Math.max(brokenMs - (performance.now() - startedMs), 3_000));
      });
      const pages = arena.since(startedMs + 1_000, "page");
      const partial = pages.filter(isPartial).length;
      await end(arena);
      const closedMs = await timeUntil(async () => !(await isOpen(arena)), breakerMs * slack + 3_000);
      const slowest = Math.max(...arena.since(startedMs, "page", "read").map(({ durationMs }) => durationMs));
      const checkouts = arena.since(startedMs, "checkout");
      return [
        finding(`answers within ${deadlineMs} ms`, `the slowest took ${Math.round(slowest)} ms`, slowest <= deadlineMs + marginMs * slack),
        finding("pages are partial", `${partial} of ${pages.length}`, pages.length > 0 && partial === pages.length),
        finding("breaker opens in 5 s", ms(openedMs), openedMs !== undefined && openedMs < breakerMs * slack),
        finding("and closes in 5 s", ms(closedMs), closedMs !== undefined && closedMs < breakerMs * slack),
        finding(
          "load on it at most 1.1 times the normal",
          `${broken.toFixed(1)} tries/s, normally ${normal.toFixed(1)}`,
          broken <= 1.1 * normal,
        ),
        finding("orders are accepted", `${successes(checkouts)} of ${checkouts.length}`, successes(checkouts) === checkouts.length),
      ];
    },
  };
}

/** Those that `npm test` runs too. */
export const shortScenarios: readonly Scenario[] = [
  neighbourFails(
    "inventory answers 2 s late",
    (arena) => arena.breakService(victim, { kind: "late", ms: 2_000 }),
    (arena) => arena.breakService(victim, undefined),
  ),
  neighbourFails(
    "inventory is dead",
    (arena) => {
      arena.breakService(victim, { kind: "dead" });
      return signal(arena, "SIGKILL");
    },
    (arena) => arena.breakService(victim, undefined),
  ),
  neighbourFails(
    "inventory accepts and never answers",
    (arena) => signal(arena, "SIGSTOP"),
    (arena) => signal(arena, "SIGCONT"),
  ),
  {
    name: "30 % of inventory's answers are errors",
    async run(arena, { brokenMs, slack }) {
      const startedMs = performance.now();
      arena.breakService(victim, { kind: "errors", share: 0.3, code: "unavailable" });
      await delay(brokenMs);
      const reads = arena.since(startedMs, "read");
      arena.breakService(victim, undefined);
      const share = successes(reads) / reads.length;
      return [
        finding("99 % of idempotent reads succeed", `${successes(reads)} of ${reads.length}, ${percent(share)}`, share >= 1 - 0.01 * slack),
      ];
    },
  },
  {
    name: "one of inventory's two replicas answers nothing but errors",
    async run(arena, { brokenMs, slack }) {
      const startedMs = performance.now();
      arena.breakService(victim, { kind: "errors", share: 1, code: "internal" }, 1);
      const healedMs = await timeUntil(() => {
        const reads = arena.since(startedMs, "read");
        const recent = arena.since(performance.now() - 1_000, "read");
        return successes(reads) < reads.length && recent.length > 0 && successes(recent) === recent.length;
      }, 11_000 * slack);
      const healedAtMs = performance.now();
      await delay(brokenMs);
      const after = arena.since(healedAtMs, "read");
      arena.breakService(victim, undefined);
      const errors = 1 - successes(after) / after.length;
      return [
        finding(
          "errors under 1 % again within 10 s",
          `none for a second after ${ms(healedMs)}; then ${percent(errors)} of ${after.length}`,
          healedMs !== undefined && errors < 0.01 * slack,
        ),
      ];
    },
  },
];

/** Sends a signal to all replicas of the victim; they have other processes once they were killed. */
async function signal({ suite }: Arena, name: "SIGKILL" | "SIGSTOP" | "SIGCONT"): Promise<void> {
  for (const pid of await partPids(suite, victim)) process.kill(pid, name);
}

/** Whether each caller's breaker of what pages need of the victim is open. */
async function isOpen(arena: Arena): Promise<boolean> {
  const open = await arena.sum("storefront", "parley_rpc_client_breaker_state", { service_peer_name: victim });
  const gateway = await arena.sum("gateway", "parley_rpc_client_breaker_state", {
    service_peer_name: victim,
    rpc_method: "parley.inventory.v1.InventoryService/GetStock",
  });
  return open > 0 && gateway > 0;
}

/** Returns how many tries were made at the victim a second, meanwhile. */
async function loadOn(arena: Arena, meanwhile: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  const before = await triesAt(arena);
  await meanwhile();
  return ((await triesAt(arena)) - before) / ((performance.now() - startedMs) / 1_000);
}

async function triesAt(arena: Arena): Promise<number> {
  const labels = { service_peer_name: victim };
  const sums = await Promise.all(
    callers
      .filter((name) => name !== victim)
      .map(async (name) => {
        const [calls = 0, further = 0, rejected = 0] = await Promise.all(
          ["rpc_client_call_duration_seconds_count", "parley_rpc_client_retries_total", "parley_rpc_client_breaker_rejected_total"].map(
            (metric) => arena.sum(name, metric, labels),
          ),
        );
        return calls + further - rejected;
      }),
  );
  return sums.reduce((sum, count) => sum + count, 0);
}

function isPartial({ status, text }: Answer): boolean {
  return status === 200 && text.includes("PAGE_PART_STOCK");
}

export function successes(answers: readonly Answer[]): number {
  return answers.filter(({ status }) => status === 200).length;
}

export function finding(promise: string, measured: string, isKept: boolean): Finding {
  return { promise, measured, isKept };
}

export function ms(value: number | undefined): string {
  return value === undefined ? "not in time" : `${Math.round(value)} ms`;
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(2)} %`;
}
