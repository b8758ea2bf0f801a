import { expect, test } from "vitest";
import { fuzz } from "./fuzz.ts";

test("whatever is sent to the gateway, it does not crash, hang, fail inside or grow, and others are served", {
  timeout: 120_000,
}, async () => {
  const seed = Math.floor(Math.random() * 1_000_000);
  process.stdout.write(`seed ${seed}\n`);
  const report = await fuzz({ seconds: 20, seed });
  expect(report.violations).toEqual([]);
  for (const kind of ["raw", "http1", "http2", "json", "url", "grpc"]) expect(report.sent[kind]).toBeGreaterThan(0);
});
