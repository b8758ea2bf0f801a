import { expect, vi } from "vitest";

/** Waits until `condition` no longer throws, as long as a busy machine may take, and returns what it returns. */
export function eventually<T>(condition: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(condition, { timeout: 60_000, interval: 20 });
}

/** Waits until a count has begun and then stays the same over 200 turns of the event loop; returns it. */
export function standstill(count: () => number): Promise<number> {
  return eventually(async () => {
    const before = count();
    for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate);
    expect(count()).toBe(before);
    expect(before).toBeGreaterThan(0);
    return before;
  });
}
