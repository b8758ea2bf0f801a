import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { Random } from "@parley/chassis/testing/random.ts";
import { services } from "../../services/all.ts";
import { partPids, postgresPids, query, type Suite } from "../suite.ts";

/** Something that was done to the suite. */
export interface Fault {
  readonly victim: string;
  readonly kind: "kill" | "freeze" | "cut";
  /** When, on performance.now()'s clock. */
  readonly atMs: number;
}

/** Time between two faults, and for which something is frozen: leases of 5 s run out or do not. */
const pauseMs = [300, 1_800] as const;
const frozenMs = [300, 7_000] as const;

/** Kills and freezes processes of the suite, and cuts connections, one thing after the other, until the signal fires; then all runs again. */
export async function injectFaults(suite: Suite, { random, enough }: { random: Random; enough: AbortSignal }): Promise<Fault[]> {
  const faults: Fault[] = [];
  const thawing: Promise<void>[] = [];
  // Those that take part in a checkout more often.
  const victims: [string, ...string[]] = ["postgres", "gateway", "orders", "payments", "inventory", "carts", ...Object.keys(services)];
  while (!enough.aborted) {
    await delay(random.between(...pauseMs), undefined, { signal: enough }).catch(() => {});
    if (enough.aborted) break;
    const victim = random.pick(victims);
    const kind = random.pick<Fault["kind"]>(["kill", "kill", "freeze", "cut"]);
    const forMs = random.between(...frozenMs);
    const pids = victim === "postgres" ? await postgresPids(suite).catch(() => []) : pickOne(await partPids(suite, victim), random);
    if (pids.length === 0) continue; // it is being started again
    faults.push({ victim, kind, atMs: performance.now() });
    if (kind === "cut") await cut(suite, victim);
    else if (kind === "kill") kill(pids);
    else thawing.push(freeze(pids, forMs));
  }
  await Promise.all(thawing);
  return faults;
}

/** One of the replicas. */
function pickOne(pids: readonly number[], random: Random): number[] {
  const [first, ...others] = pids;
  return first === undefined ? [] : [random.pick([first, ...others])];
}

function kill(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {} // it has ended meanwhile
  }
}

/** Freezes processes for a time, by a process of its own: whatever ends this one, nothing stays frozen. */
async function freeze(pids: readonly number[], forMs: number): Promise<void> {
  const all = pids.join(" ");
  const script = `kill -STOP ${all}; sleep ${forMs / 1_000}; kill -CONT ${all}`;
  await once(spawn("sh", ["-c", script], { detached: true, stdio: "ignore" }), "exit");
}

/** Ends the TCP connections of a service, where the machine lets us; its database connections where it has any. */
async function cut(suite: Suite, victim: string): Promise<void> {
  const port = victim in services ? suite.portOf(victim) : victim === "gateway" ? Number(new URL(suite.gatewayUrl).port) : undefined;
  if (port !== undefined) await promisify(execFile)("ss", ["-K", "dst", "127.0.0.1", "dport", "=", `:${port}`]).catch(() => {});
  const owner = ["greeter", "storefront", "gateway", "postgres"].includes(victim) ? "orders" : victim;
  await query(
    suite.dataDir,
    owner,
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()",
  ).catch(() => []);
}
