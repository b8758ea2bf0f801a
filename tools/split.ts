import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ensureLocalKeys } from "@parley/chassis/auth/local-keys.ts";
import { commonConfig, portAt, readConfig } from "@parley/chassis/config.ts";
import { startEmbeddedDatabases } from "@parley/chassis/data/embedded-databases.ts";
import { localTargets } from "@parley/chassis/rpc/transports.ts";
import type { Component } from "@parley/chassis/service.ts";
import { onStopSignal } from "@parley/chassis/signals.ts";
import { createLogger } from "@parley/chassis/telemetry/log.ts";
import { gatewayConfig } from "@parley/gateway/config.ts";
import type { Logger } from "pino";

/** How long to wait before a process that died is started again: twice as long each time, until it was up for `steadyMs`. */
const backoffMs = { first: 100, atMost: 5_000, steadyMs: 10_000 };

/** Time beyond its drain after which a process that has not stopped, frozen perhaps, is killed. */
const graceMs = 2_000;

/** A part of the suite that runs as a process of its own. */
export interface Part {
  readonly name: string;
  readonly port: number;
  readonly adminPort: number;
  /** Of the process; another one once it was started again. */
  readonly pid: number | undefined;
}

/** A process of the suite that is started again when it dies. */
interface SupervisedProcess {
  readonly pid: number | undefined;
  /** Resolves when it serves for the first time; rejects where it cannot start. */
  readonly ready: Promise<void>;
  /** Stops it as SIGTERM does, for good. */
  stop(): Promise<void>;
  kill(): void;
  /** Passes a signal on, where the process is ready for it. */
  signal(signal: "SIGUSR1" | "SIGUSR2"): void;
}

interface SplitOptions {
  /** How many processes a service has, by its name. Default: one. */
  readonly replicas: ReadonlyMap<string, number>;
  /** Scripts that run a component in place of its own, by its name. */
  readonly scripts?: ReadonlyMap<string, string>;
}

/**
 * Runs each service and the gateway as a process of its own. One that dies is started again; one
 * signal stops all, the gateway first, and a second one kills them. One that does not stop in
 * time is killed. They end when this one dies.
 */
export async function splitProcesses(
  components: readonly Component[],
  { replicas, scripts = new Map() }: SplitOptions,
  onReady: (parts: readonly Part[]) => void,
): Promise<void> {
  const base = readConfig(commonConfig, process.env);
  const { PARLEY_LOG_LEVEL: level, PARLEY_LOG_DIR: directory } = base;
  const { log } = await createLogger({ level, file: directory === undefined ? undefined : { directory, name: "start" } });
  const named = components.map(({ name }) => ({ name, shownName: name }));
  const further = [...replicas].flatMap(([name, count]) =>
    Array.from({ length: count - 1 }, (_, index) => ({ name, shownName: `${name} ${index + 2}` })),
  );
  const isGateway = ({ name }: { name: string }): boolean => name === "gateway";
  // Further replicas behind the services, which so stay at their ports.
  const places = [...named.filter((place) => !isGateway(place)), ...further, ...named.filter(isGateway)].map((place, index) => ({
    ...place,
    port: isGateway(place)
      ? readConfig(gatewayConfig, process.env).PARLEY_GATEWAY_PORT
      : portAt(base.PARLEY_GRPC_BASE_PORT, index, "PARLEY_GRPC_BASE_PORT"),
    adminPort: portAt(base.PARLEY_ADMIN_BASE_PORT, index, "PARLEY_ADMIN_BASE_PORT"),
  }));
  const databases = await startEmbeddedDatabases(components, { env: process.env, dataDir: base.PARLEY_DATA_DIR, log, replicas });
  const keys = await ensureLocalKeys(components, { env: process.env, dataDir: base.PARLEY_DATA_DIR });
  const targets = localTargets(places, base.PARLEY_HOST);

  const stopMs = base.PARLEY_DRAIN_DELAY + base.PARLEY_DRAIN_TIMEOUT + graceMs;
  let isDebugging = false;
  const parts = places.map(({ name, shownName, port, adminPort }) =>
    supervise({
      log: log.child({ "service.name": shownName }),
      script: scripts.get(name) ?? mainOf(name),
      stopMs,
      env: {
        ...targets,
        ...process.env,
        ...databases.env,
        ...keys,
        PARLEY_GRPC_BASE_PORT: String(port),
        PARLEY_ADMIN_BASE_PORT: String(adminPort),
      },
      onReady: (child) => isDebugging && child.kill("SIGUSR2"),
    }),
  );
  const stop = async (exitCode: number): Promise<void> => {
    for (const one of parts.toReversed()) await one.stop();
    await databases.stop();
    process.exit(exitCode);
  };
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const) {
    process.on(signal, () => {
      if (signal === "SIGUSR2") isDebugging = !isDebugging;
      for (const one of parts) one.signal(signal);
    });
  }
  onStopSignal({
    stop: () => stop(0),
    kill() {
      for (const one of parts) one.kill();
      process.exit(1);
    },
  });
  try {
    await Promise.all(parts.map(({ ready }) => ready));
  } catch {
    await stop(1); // it said why itself
  }
  onReady(places.map(({ shownName, port, adminPort }, index) => ({ name: shownName, port, adminPort, pid: parts[index]?.pid })));
}

/** Returns the script that runs a component alone. */
function mainOf(name: string): string {
  return join(import.meta.dirname, "..", name === "gateway" ? "gateway/main.ts" : `services/${name}/main.ts`);
}

/** Runs a script again and again; told to stop, it has so long, in milliseconds. */
function supervise(options: {
  readonly log: Logger;
  readonly script: string;
  readonly stopMs: number;
  readonly env: NodeJS.ProcessEnv;
  readonly onReady: (child: ChildProcess) => void;
}): SupervisedProcess {
  const { log, script, stopMs, env, onReady } = options;
  const ready = Promise.withResolvers<void>();
  const stopped = new AbortController();
  let child: ChildProcess | undefined;
  let isReady = false;
  const ended = run();

  async function run(): Promise<void> {
    let wasReady = false;
    for (let waitMs = backoffMs.first; !stopped.signal.aborted; waitMs = Math.min(waitMs * 2, backoffMs.atMost)) {
      const startedMs = performance.now();
      // A group of its own: a terminal's Ctrl-C is for the parent, which stops all in order.
      child = spawn(process.execPath, [...process.execArgv, script], {
        env,
        stdio: ["ignore", "inherit", "inherit", "ipc"],
        detached: true,
      });
      const started = child;
      started.once("message", () => {
        wasReady = true;
        isReady = true;
        onReady(started);
        ready.resolve();
      });
      const [code, signal] = await once(started, "exit");
      isReady = false;
      if (stopped.signal.aborted) return;
      if (!wasReady) return ready.reject(new Error(`${script} did not start`));
      if (performance.now() - startedMs > backoffMs.steadyMs) waitMs = backoffMs.first;
      log.error({ exit_code: code, signal, retry_ms: waitMs }, "the process ended; it is started again");
      await delay(waitMs, undefined, { signal: stopped.signal }).catch(() => {});
    }
  }

  return {
    get pid() {
      return child?.pid;
    },
    ready: ready.promise,
    async stop() {
      stopped.abort();
      child?.kill("SIGTERM");
      const killing = setTimeout(() => child?.kill("SIGKILL"), stopMs);
      await ended;
      clearTimeout(killing);
    },
    kill: () => void child?.kill("SIGKILL"),
    signal: (signal) => void (isReady && child?.kill(signal)),
  };
}
