// Prints how long the suite takes from its start to ready, and its memory then and after some
// calls, in one process, and that of its Postgres. Goals: under 4 s at the first start and 2.5 s
// later, and under 300 MB.
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { makeDataDir } from "@parley/chassis/testing/data-dir.ts";
import { type Suite, startSuite } from "../tests/suite.ts";

const rounds = 7;
const warmUpCalls = 2_000;
const results: { firstMs: number; laterMs: number; readyMb: number; usedMb: number; postgresMb: number }[] = [];
for (let round = 0; round < rounds; round++) {
  const dataDir = makeDataDir();
  const first = await start(dataDir);
  await first.suite.stop();
  const { suite, readyMs } = await start(dataDir);
  const readyMb = residentMb(suite.process.pid);
  for (let call = 0; call < warmUpCalls; call++) await (await fetch(`${suite.gatewayUrl}/api/hello`)).text();
  results.push({
    firstMs: first.readyMs,
    laterMs: readyMs,
    readyMb,
    usedMb: residentMb(suite.process.pid),
    postgresMb: postgresMb(suite.process.pid),
  });
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

print(
  "memory of its Postgres then, shared parts counted once",
  "MB",
  results.map((result) => result.postgresMb),
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

/** The proportional memory (proc(5), Pss) of the server that the process started, and of its backends. */
function postgresMb(parent: number | undefined): number {
  const rows = execFileSync("ps", ["-eo", "pid=,ppid="], { encoding: "utf8" })
    .trim()
    .split("\n")
    .map((row) => row.trim().split(/\s+/).map(Number));
  const family = new Set([parent]);
  for (const _generation of [1, 2, 3]) for (const [pid, ppid] of rows) if (family.has(ppid)) family.add(pid);
  family.delete(parent);
  const kibibytes = [...family].map((pid) => {
    try {
      return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1]);
    } catch {
      return 0; // it has ended by now
    }
  });
  return (kibibytes.reduce((sum, one) => sum + one, 0) * 1_024) / 1e6;
}

function print(what: string, unit: string, values: number[]): void {
  const sorted = values.toSorted((a, b) => a - b).map(Math.round);
  console.log(`${what}: median ${sorted[Math.floor(sorted.length / 2)]} ${unit}, ${sorted[0]} to ${sorted.at(-1)} in ${rounds} rounds`);
}
