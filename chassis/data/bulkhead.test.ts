import { expect, test } from "vitest";
import { createBulkhead } from "./bulkhead.ts";

const forEver = () => new AbortController().signal;

/** Whether a promise has resolved by now. */
async function isIn(entering: Promise<unknown>): Promise<boolean> {
  return Promise.race([entering.then(() => true), new Promise<boolean>((resolve) => setImmediate(resolve, false))]);
}

test("those of one key wait for each other, in their order, and not for others", async () => {
  const bulkhead = createBulkhead(2);
  const leave = await bulkhead.enter("a", forEver);
  await bulkhead.enter("a", forEver);
  const [third, fourth, other] = ["a", "a", "b"].map((key) => bulkhead.enter(key, forEver)) as [
    Promise<() => void>,
    Promise<() => void>,
    Promise<() => void>,
  ];
  expect([await isIn(third), await isIn(fourth), await isIn(other)]).toEqual([false, false, true]);
  expect(bulkhead.waiting).toBe(2);
  leave();
  expect([await isIn(third), await isIn(fourth)]).toEqual([true, false]);
  (await third)();
  expect(await isIn(fourth)).toBe(true);
  expect(bulkhead.waiting).toBe(0);
});

test("who gives up takes no place", async () => {
  const bulkhead = createBulkhead(1);
  const leave = await bulkhead.enter("a", forEver);
  const controller = new AbortController();
  const givenUp = bulkhead.enter("a", () => controller.signal);
  const next = bulkhead.enter("a", forEver);
  controller.abort();
  await expect(givenUp).rejects.toThrow();
  leave();
  expect(await isIn(next)).toBe(true);
});

test("who gives up at the moment of their turn passes it on", async () => {
  const bulkhead = createBulkhead(1);
  const leave = await bulkhead.enter("a", forEver);
  const controller = new AbortController();
  const givenUp = bulkhead.enter("a", () => controller.signal);
  const next = bulkhead.enter("a", forEver);
  controller.abort();
  leave();
  await expect(givenUp).rejects.toThrow();
  expect(await isIn(next)).toBe(true);
  (await next)();
  expect(await isIn(bulkhead.enter("a", forEver))).toBe(true);
});
