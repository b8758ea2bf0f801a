// Prints what telemetry costs a call from a client by way of the gateway to a service: processor time with metrics, a line of
// the log on each hop and tracing of which 1 % is sampled, beside that with none of these, in turns. Ids are made either way.
import { fork } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, rmSync } from "node:fs";
import { Agent } from "node:http";
import { join } from "node:path";
import { makeDataDir } from "@parley/chassis/testing/data-dir.ts";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { ask } from "../tests/chaos/load.ts";
import { openCollector } from "../tests/collector.ts";
import { shown } from "./shown.ts";

const rounds = 25;
const secondsEach = 1.5;
const connections = 16;

const collector = await openCollector();
const everything = {
  PARLEY_LOG_LEVEL: "info",
  OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
  OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
  OTEL_TRACES_SAMPLER_ARG: "0.01",
};
const suites = {
  on: await start("on", everything),
  off: await start("off", { PARLEY_LOG_LEVEL: "silent" }),
  "metrics alone": await start("on", { PARLEY_LOG_LEVEL: "silent" }),
  "lines of the log alone": await start("off", { PARLEY_LOG_LEVEL: "info" }),
  "traces alone": await start("off", { ...everything, PARLEY_LOG_LEVEL: "silent" }),
};

const costs = Object.fromEntries(Object.keys(suites).map((name) => [name, [] as number[]]));
try {
  for (let round = -1; round < rounds; round++) {
    for (const [name, suite] of Object.entries(suites)) {
      const microseconds = await costOf(suite);
      if (round >= 0) costs[name]?.push(microseconds); // the first is for the compiler
    }
  }
} finally {
  for (const suite of Object.values(suites)) suite.stop();
  collector.close();
}
for (const [name, some] of Object.entries(costs)) console.log(`${name}: ${shown(some)} µs of CPU a call, gateway and service together`);
for (const name of Object.keys(costs).filter((one) => one !== "off")) {
  const ratios = (costs[name] ?? []).map((cost, round) => (cost / (costs["off"]?.[round] ?? Number.NaN) - 1) * 100);
  console.log(`${name}: ${shown(ratios, 1)} % more than off`);
}
console.log(`${collector.spans.length} spans were sent`);

interface MeasuredSuite {
  readonly pid: number;
  readonly url: string;
  stop(): void;
}

async function start(metrics: "on" | "off", env: NodeJS.ProcessEnv): Promise<MeasuredSuite> {
  const port = await findFreePorts(3);
  const dataDir = makeDataDir();
  const lines = openSync("/dev/null", "w");
  const child = fork(join(import.meta.dirname, "telemetry-suite.ts"), [metrics], {
    env: {
      ...process.env,
      ...env,
      PARLEY_DATA_DIR: dataDir,
      PARLEY_GRPC_BASE_PORT: String(port),
      PARLEY_GATEWAY_PORT: String(port + 1),
      PARLEY_ADMIN_BASE_PORT: String(port + 2),
    },
    stdio: ["ignore", lines, "inherit", "ipc"],
  });
  closeSync(lines);
  await once(child, "message");
  return {
    pid: child.pid ?? 0,
    url: `http://127.0.0.1:${port + 1}`,
    stop() {
      child.kill("SIGKILL");
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** Returns what a call costs, in microseconds of processor time. */
async function costOf({ pid, url }: MeasuredSuite): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const untilMs = performance.now() + secondsEach * 1_000;
  const beforeMs = cpuMs(pid);
  let calls = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      for (; performance.now() < untilMs; calls++) {
        const { status } = await ask(url, { name: "hello", path: "/api/hello/Ada" }, agent);
        if (status !== 200) throw new Error(`status ${status}`);
      }
    }),
  );
  agent.destroy();
  return ((cpuMs(pid) - beforeMs) * 1_000) / calls;
}

/** The processor time of a process, in milliseconds, by Linux's proc(5): ticks of 10 ms. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
