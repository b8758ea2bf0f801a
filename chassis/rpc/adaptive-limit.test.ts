import { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";
import { expect, test } from "vitest";
import { type AdaptiveLimit, createAdaptiveLimit } from "./adaptive-limit.ts";

const { CRITICAL, DEFAULT, SHEDDABLE } = Criticality;

/** Lets as many calls in as there is room for, at most so many; returns what lets them leave again. */
function fill(limit: AdaptiveLimit, criticality: Criticality, atMost = 100_000): (() => void)[] {
  const leave: (() => void)[] = [];
  for (let next = limit.admit(criticality); next !== undefined; next = leave.length < atMost ? limit.admit(criticality) : undefined)
    leave.push(next);
  return leave;
}

test("while the event loop is on time, nothing is refused, however many come at once", () => {
  const limit = createAdaptiveLimit();
  expect(fill(limit, SHEDDABLE, 3_000)).toHaveLength(3_000);
  limit.adapt(90);
  expect(limit.admit(SHEDDABLE)).toBeDefined();
});

test("a late event loop cuts the limit, and the least critical calls are refused first", () => {
  const limit = createAdaptiveLimit();
  const leave = fill(limit, SHEDDABLE, 400);
  limit.adapt(200);
  expect(limit.current).toBe(10_000); // it may be a moment
  limit.adapt(200);
  expect(limit.current).toBe(200);
  for (const one of leave) one();
  const sheddable = fill(limit, SHEDDABLE);
  const others = fill(limit, DEFAULT);
  const critical = fill(limit, CRITICAL);
  expect([sheddable.length, others.length, critical.length]).toEqual([140, 40, 200]);
});

test("a limit falls to half at once at most, and never below what a burst may be", () => {
  const limit = createAdaptiveLimit();
  fill(limit, SHEDDABLE, 400);
  limit.adapt(10_000);
  limit.adapt(10_000);
  expect(limit.current).toBe(200);
  for (let time = 0; time < 20; time++) limit.adapt(10_000);
  expect(limit.current).toBe(192);
});

test("when the event loop is on time again, the limit rises, quickly where it is not used", () => {
  const limit = createAdaptiveLimit();
  const leave = fill(limit, SHEDDABLE, 400);
  limit.adapt(10_000);
  limit.adapt(10_000);
  limit.adapt(0);
  expect(limit.current).toBeCloseTo(220);
  for (const one of leave) one();
  limit.adapt(0); // calls were in progress until now
  for (let time = 0; time < 10; time++) limit.adapt(0);
  expect(limit.current).toBe(10_000);
});
