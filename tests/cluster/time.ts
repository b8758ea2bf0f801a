import { setTimeout as delay } from "node:timers/promises";

/** How long something is waited for, on a cluster that pulls nothing. */
const patienceMs = 120_000;

/** Waits until `work` no longer throws, and returns what it returns. */
export async function eventually<T>(work: () => Promise<T>): Promise<T> {
  for (const untilMs = performance.now() + patienceMs; ; await delay(300)) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > untilMs) throw error;
    }
  }
}

/** Returns how long work takes, such as `12 s`. */
export async function secondsOf(work: () => Promise<unknown>): Promise<string> {
  const startedMs = performance.now();
  await work();
  return `${((performance.now() - startedMs) / 1_000).toFixed(0)} s`;
}
