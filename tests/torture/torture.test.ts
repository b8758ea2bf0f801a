import { expect, test } from "vitest";
import { torture } from "./torture.ts";

test("nothing is lost while processes, the gateway and Postgres are killed and frozen", { timeout: 180_000 }, async () => {
  const seed = Math.floor(Math.random() * 1_000_000);
  process.stdout.write(`seed ${seed}\n`);
  const report = await torture({ seconds: 20, seed });
  expect(report.violations).toEqual([]);
  expect(report.orders["CONFIRMED"]).toBeGreaterThan(0);
  expect(Object.values(report.faults).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(3);
});

test("a step that is not safe to repeat is caught", { timeout: 180_000 }, async () => {
  const report = await torture({ seconds: 6, seed: 1, patienceSeconds: 5, script: "tests/torture/broken/start.ts" });
  expect(report.violations.join("\n")).toMatch(/payments knows nothing of charge/);
});
