// Prints how long the suite takes from its start to ready, and its memory then and after some
// calls, in one process. Goals: under 2 s and under 150 MB.
import { readFileSync, rmSync } from "node:fs";
import { makeDataDir, type Suite, startSuite } from "../tests/suite.ts";

const rounds = 7;
const warmUpCalls = 2_000;
const results: { firstMs: number; laterMs: number; readyMb: number; usedMb: number }[] = [];
for (let round = 0; round < rounds; round++) {
  const dataDir = makeDataDir();
  const first = await start(dataDir);
  await first.suite.stop();
  const { suite, readyMs } = await start(dataDir);
  const readyMb = residentMb(suite.process.pid);
  for (let call = 0; call < warmUpCalls; call++) await (await fetch(`${suite.gatewayUrl}/api/hello`)).text();
  results.push({ firstMs: first.readyMs, laterMs: readyMs, readyMb, usedMb: residentMb(suite.process.pid) });
  await suite.stop();
  rmSync(dataDir, { recursive: true, force: true });
}
print(
  "first start to ready, databases made",
  "ms",
  results.map(({ firstMs }) => firstMs),
);
print(
  "later start to ready",
  "ms",
  results.map(({ laterMs }) => laterMs),
);
print(
  "resident memory when ready, without Postgres",
  "MB",
  results.map(({ readyMb }) => readyMb),
);
print(
  `resident memory after ${warmUpCalls} calls`,
  "MB",
  results.map(({ usedMb }) => usedMb),
);

async function start(dataDir: string): Promise<{ suite: Suite; readyMs: number }> {
  const startedMs = performance.now();
  const suite = await startSuite({ env: { PARLEY_LOG_LEVEL: "warn", PARLEY_DATA_DIR: dataDir } });
  return { suite, readyMs: performance.now() - startedMs };
}

/** What the kernel counts as resident (proc(5), VmRSS), in MB of 10^6 bytes; NaN where there is no /proc. */
function residentMb(pid: number | undefined): number {
  const [, kibibytes] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return (Number(kibibytes) * 1_024) / 1e6;
}

function print(what: string, unit: string, values: number[]): void {
  const sorted = values.toSorted((a, b) => a - b).map(Math.round);
  console.log(`${what}: median ${sorted[Math.floor(sorted.length / 2)]} ${unit}, ${sorted[0]} to ${sorted.at(-1)} in ${rounds} rounds`);
}
