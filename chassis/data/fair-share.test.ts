import { expect, test } from "vitest";
import { createFairShare } from "./fair-share.ts";

const forEver = () => new AbortController().signal;

/** Whether a promise has resolved by now. */
async function isIn(entering: Promise<unknown>): Promise<boolean> {
  return Promise.race([entering.then(() => true), new Promise<boolean>((resolve) => setImmediate(resolve, false))]);
}

test("those of one key wait for each other, in their order, and not for others", async () => {
  const share = createFairShare(2);
  const leave = await share.enter("a", forEver);
  await share.enter("a", forEver);
  const [third, fourth, other] = ["a", "a", "b"].map((key) => share.enter(key, forEver)) as [
    Promise<() => void>,
    Promise<() => void>,
    Promise<() => void>,
  ];
  expect([await isIn(third), await isIn(fourth), await isIn(other)]).toEqual([false, false, true]);
  expect(share.waiting).toBe(2);
  leave();
  expect([await isIn(third), await isIn(fourth)]).toEqual([true, false]);
  (await third)();
  expect(await isIn(fourth)).toBe(true);
  expect(share.waiting).toBe(0);
});

test("who gives up takes no place", async () => {
  const share = createFairShare(1);
  const leave = await share.enter("a", forEver);
  const controller = new AbortController();
  const givenUp = share.enter("a", () => controller.signal);
  const next = share.enter("a", forEver);
  controller.abort();
  await expect(givenUp).rejects.toThrow();
  leave();
  expect(await isIn(next)).toBe(true);
});

test("who gives up at the moment of their turn passes it on", async () => {
  const share = createFairShare(1);
  const leave = await share.enter("a", forEver);
  const controller = new AbortController();
  const givenUp = share.enter("a", () => controller.signal);
  const next = share.enter("a", forEver);
  controller.abort();
  leave();
  await expect(givenUp).rejects.toThrow();
  expect(await isIn(next)).toBe(true);
  (await next)();
  expect(await isIn(share.enter("a", forEver))).toBe(true);
});
