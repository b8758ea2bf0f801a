import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["{chassis,gateway,tests,tools}/**/*.test.ts", "services/*/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    globalSetup: ["chassis/testing/postgres.ts"],
    testTimeout: 90_000,
    hookTimeout: 90_000,
  },
});
