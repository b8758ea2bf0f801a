import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { setLogger } from "@grpc/grpc-js";
import type { Logger } from "pino";
import { Registry } from "prom-client";
import { openAdmin } from "./admin.ts";
import { ensureLocalKeys } from "./auth/local-keys.ts";
import { type ConfigShape, commonConfig, portAt, readConfig } from "./config.ts";
import { startEmbeddedDatabases } from "./data/embedded-databases.ts";
import { createDiagnostics } from "./diagnostics.ts";
import { watchEventLoop } from "./event-loop.ts";
import { flushMs } from "./rpc/shutdown.ts";
import { localTargets } from "./rpc/transports.ts";
import type { Component, RunningComponent, Runtime } from "./service.ts";
import { onStopSignal } from "./signals.ts";
import { exitOnStartError, listenError } from "./start-error.ts";
import { createLogger } from "./telemetry/log.ts";
import { openOtlp } from "./telemetry/otlp.ts";
import { collectProcessMetrics } from "./telemetry/process-metrics.ts";
import { openTlsFolder } from "./tls-files.ts";

/** A process whose components serve. */
export interface RunningProcess {
  /** The port of each component, by its name. */
  readonly ports: ReadonlyMap<string, number>;
  readonly log: Logger;
  /** Logs an error that nobody caught, and nothing after it; resolves when all is written and sent, in two seconds at most. */
  crash(error: Error): Promise<void>;
  /** Logs from `debug` on, or again as configured. */
  toggleDebug(): void;
  /** Writes a CPU profile and a heap snapshot into the data folder. */
  writeDiagnostics(): void;
  /** Turns not ready, lets what is in progress end, and resolves when all has ended. */
  stop(): Promise<void>;
}

/**
 * Starts components in one process, in their order: each service on its own gRPC port, from
 * `PARLEY_GRPC_BASE_PORT` upward, and one admin port for all. Those that call each other find
 * each other.
 *
 * Throws ConfigError with a line for each variable that is wrong, StartError for a port in use.
 */
export async function startProcess(
  components: readonly Component[],
  environment: NodeJS.ProcessEnv = process.env,
  { around }: Pick<Runtime, "around"> = {},
): Promise<RunningProcess> {
  const names = components.map(({ name }) => name);
  // All that is wrong is told at once, before anything starts. Where the components are is not known yet, but that they are.
  const shape: ConfigShape = Object.assign({}, commonConfig, ...components.map((component) => component.config));
  readConfig(shape, {
    ...localTargets(
      names.map((name) => ({ name, port: 1 })),
      "localhost",
    ),
    ...environment,
  });
  const common = readConfig(commonConfig, environment);
  const grpcPorts = components.map((_, index) => portAt(common.PARLEY_GRPC_BASE_PORT, index, "PARLEY_GRPC_BASE_PORT"));
  const otlp = await openOtlp(environment);
  const { PARLEY_LOG_LEVEL: level, PARLEY_LOG_DIR: directory } = common;
  const name = names.length === 1 ? `${names[0]}-${grpcPorts[0]}` : "suite";
  const file = directory === undefined ? undefined : { directory, name };
  const { log: logOfAll, setLevel, flush } = await createLogger({ level, file, further: otlp.logs });
  const log = names.length === 1 ? logOfAll.child({ "service.name": names[0] }) : logOfAll;
  otlp.tellTroubles(log);
  setLogger({ error: (...text) => log.warn({ grpc: text.join(" ") }, "grpc-js") });
  const registry = new Registry();
  const processMetrics = collectProcessMetrics(registry);
  const eventLoop = watchEventLoop();
  const tls = common.PARLEY_TLS_DIR === undefined ? undefined : await openTlsFolder(common.PARLEY_TLS_DIR, log);
  let ready = false;
  let isDebugging = false;
  const running: RunningComponent[] = [];
  const ports = new Map<string, number>();
  const admin = await openAdmin({
    host: common.PARLEY_HOST,
    port: common.PARLEY_ADMIN_BASE_PORT,
    registry,
    isReady: () => ready,
    async findTroubles() {
      const troubles = await Promise.all(running.map(async (one, index) => [names[index], await one.findTrouble?.()] as const));
      return [
        ...(ready ? [] : ["it is not ready"]),
        ...troubles.flatMap(([name, trouble]) => (trouble === undefined ? [] : `${name}: ${trouble}`)),
      ];
    },
  }).catch((error: unknown) => {
    throw listenError(error, common.PARLEY_ADMIN_BASE_PORT, "PARLEY_ADMIN_BASE_PORT");
  });
  const databases = await startEmbeddedDatabases(components, { env: environment, dataDir: common.PARLEY_DATA_DIR, log });
  const keys = await ensureLocalKeys(components, { env: environment, dataDir: common.PARLEY_DATA_DIR });
  const places = names.map((name, index) => ({ name, port: grpcPorts[index] ?? 0 }));
  const targets = localTargets(places, common.PARLEY_HOST);
  const env = { ...targets, ...environment, ...databases.env, ...keys };
  for (const [index, component] of components.entries()) {
    const started = await component.start({
      env,
      common,
      telemetry: {
        serviceName: component.name,
        log: logOfAll.child({ "service.name": component.name }),
        registry,
        tracer: otlp.tracerOf(component.name),
      },
      eventLoop,
      tls,
      grpcPort: grpcPorts[index] ?? 0,
      around,
    });
    running.push(started);
    ports.set(component.name, started.port);
  }
  for (const component of running) component.setServing(true);
  ready = true;

  const flushAll = async (): Promise<void> => void (await Promise.all([flush(), otlp.close()]));
  return {
    ports,
    log,
    async crash(error) {
      log.error({ err: error }, "uncaught exception");
      setLevel("silent"); // what is done from now on is not to be believed
      await flushAll();
    },
    writeDiagnostics: createDiagnostics(join(common.PARLEY_DATA_DIR, "diagnostics"), log),
    toggleDebug() {
      isDebugging = !isDebugging;
      setLevel(isDebugging ? "debug" : level);
      log.warn({ level: log.level }, "the level of the log has changed");
    },
    async stop() {
      const drains: Promise<void>[] = [];
      ready = false;
      for (const component of running) component.setServing(false);
      await delay(common.PARLEY_DRAIN_DELAY);
      const giveUp = AbortSignal.timeout(common.PARLEY_DRAIN_TIMEOUT);
      const flushed = once(giveUp, "abort").then(() => delay(flushMs));
      // In reverse: what the gateway has accepted still finds the services. When time is up, all at once.
      for (const component of running.toReversed()) {
        const drained = component.drain(giveUp);
        if (!giveUp.aborted) await Promise.race([drained, once(giveUp, "abort")]);
        drains.push(drained);
      }
      await Promise.race([Promise.all(drains), flushed]);
      admin.close();
      eventLoop.stop();
      processMetrics.stop();
      tls?.close();
      await databases.stop();
      log.info({ components: names }, "stopped");
      await flushAll();
    },
  };
}

/**
 * Runs components until the process is told to stop, by SIGTERM or SIGINT: then it drains and
 * exits with 0. A second signal ends it at once. What keeps it from starting is told in a line
 * each, and it exits with 1. Started by a parent with an IPC channel, it tells it `ready`, and
 * stops when the parent is gone. SIGUSR2 makes it log from `debug` on, and again as configured;
 * SIGUSR1, with which Node would open its debugger, makes it write diagnostics.
 */
export async function serve(
  components: readonly Component[],
  onReady: (running: RunningProcess) => void = () => {},
  options: Pick<Runtime, "around"> = {},
): Promise<void> {
  let started: RunningProcess | undefined;
  const names = components.map(({ name }) => name);
  process.stdout.on("error", () => {}); // as for the log: who started us may have stopped reading
  // From the beginning: it may wait for its database.
  onStopSignal({
    async stop(signal) {
      if (started === undefined) process.exit(0);
      started.log.info({ signal, components: names }, "draining; a second signal ends the process at once");
      await started.stop();
      process.exit(0);
    },
    kill: () => process.exit(1),
  });
  process.on("SIGUSR2", () => started?.toggleDebug()).on("SIGUSR1", () => started?.writeDiagnostics());
  const running = await startProcess(components, process.env, options).catch(exitOnStartError);
  started = running;
  process.on("uncaughtException", (error) => {
    void running.crash(error).finally(() => process.exit(1));
  });
  running.log.info({ ports: Object.fromEntries(running.ports), "process.pid": process.pid }, "ready");
  if (process.connected) process.send?.("ready");
  onReady(running);
}
