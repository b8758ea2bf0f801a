import { expect, vi } from "vitest";

/** Waits until a count has begun and then stays the same over 200 turns of the event loop; returns it. */
export async function standstill(count: () => number): Promise<number> {
  return vi.waitFor(async () => {
    const before = count();
    for (let turn = 0; turn < 200; turn++) await new Promise(setImmediate);
    expect(count()).toBe(before);
    expect(before).toBeGreaterThan(0);
    return before;
  }, 10_000);
}
