import { expect, test } from "vitest";
import { openArena } from "./arena.ts";
import { runScenarios } from "./chaos.ts";
import { shortScenarios } from "./scenarios.ts";

test("a neighbour that is late, dead, silent, or fails in part costs its callers no more than was promised", async () => {
  const arena = await openArena({ seconds: 120 });
  try {
    // It is quiet for as long as the budgets of retries need to be full again.
    const outcomes = await runScenarios(arena, shortScenarios, { brokenMs: 5_000, quietMs: 4_000, slack: 4 });
    expect(
      outcomes.flatMap(({ name, findings }) => findings.filter(({ isKept }) => !isKept).map((finding) => ({ name, ...finding }))),
    ).toEqual([]);
  } finally {
    await arena.stop();
  }
}, 180_000);
