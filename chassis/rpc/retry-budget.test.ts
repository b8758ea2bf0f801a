import { expect, test } from "vitest";
import { createRandom } from "../testing/random.ts";
import { createRetryBudget, type RetryBudget } from "./retry-budget.ts";

/** Makes calls to a target that fails this share of its tries; returns how many tries there were a call, and the share of calls that succeeded. */
function simulate(budget: RetryBudget, failing: number, calls: number, random = createRandom(7)) {
  let [tries, succeeded] = [0, 0];
  for (let call = 0; call < calls; call++) {
    for (let tried = 1; tried <= 5; tried++) {
      tries++;
      if (random.next() >= failing) {
        budget.earn(tried === 1 ? "first" : "retry");
        succeeded++;
        break;
      }
      if (!budget.spend("retry")) break;
    }
  }
  return { tries: tries / calls, succeeded: succeeded / calls };
}

test("while everything fails, twenty tries at most are made on top", () => {
  const budget = createRetryBudget();
  simulate(budget, 0, 1_000);
  expect(simulate(budget, 1, 1_000).tries).toBeLessThanOrEqual(1.02);
});

test("a target that fails 30 % of its calls has more than 99 % of them answered", () => {
  const { tries, succeeded } = simulate(createRetryBudget(), 0.3, 10_000);
  expect(succeeded).toBeGreaterThan(0.99);
  expect(tries).toBeLessThan(1.45);
});

test.each([0.5, 0.7, 0.9])(
  "of a target that fails %d of its calls, at most a quarter of what succeeds is spent on tries that come to nothing",
  (failing) => {
    const { tries, succeeded } = simulate(createRetryBudget(), failing, 10_000);
    const wasted = tries - 1 - (succeeded - (1 - failing)); // of the tries on top, those without success
    expect(wasted).toBeLessThanOrEqual(0.25 * succeeded + 0.01);
  },
);

test("hedges are a tenth of the calls at most", () => {
  const budget = createRetryBudget();
  let hedges = 0;
  for (let call = 0; call < 10_000; call++) {
    if (budget.spend("hedge")) hedges++;
    budget.earn("first");
  }
  expect(hedges).toBeLessThanOrEqual(1_010);
});
