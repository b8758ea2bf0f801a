import { setTimeout as delay } from "node:timers/promises";
import { setLogger } from "@grpc/grpc-js";
import type { Logger } from "pino";
import { collectDefaultMetrics, Registry } from "prom-client";
import { z } from "zod";
import { openAdmin } from "./admin.ts";
import { ConfigError, processConfig, readConfig } from "./config.ts";
import { targetVariable } from "./rpc/transports.ts";
import type { Component, RunningComponent } from "./service.ts";
import { onStopSignal } from "./signals.ts";
import { listenError, StartError } from "./start-error.ts";
import { createLogger } from "./telemetry/log.ts";

/** A process whose components serve. */
export interface RunningProcess {
  /** The port of each component, by its name. */
  readonly ports: ReadonlyMap<string, number>;
  readonly adminPort: number;
  readonly log: Logger;
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
): Promise<RunningProcess> {
  const names = components.map(({ name }) => name);
  // All that is wrong is told at once, before anything starts.
  const schema = z.object(Object.assign({}, processConfig.shape, ...components.map((component) => component.config.shape)));
  readConfig(schema, { ...targetsOf(names, "localhost", 1), ...environment });
  const config = readConfig(processConfig, environment);
  const env = { ...targetsOf(names, config.PARLEY_HOST, config.PARLEY_GRPC_BASE_PORT), ...environment };

  const log = await createLogger(config.PARLEY_LOG_LEVEL);
  setLogger({ error: (...text) => log.warn({ grpc: text.join(" ") }, "grpc-js") });
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  let ready = false;
  const running: RunningComponent[] = [];
  const ports = new Map<string, number>();
  const admin = await openAdmin({ host: config.PARLEY_HOST, port: config.PARLEY_ADMIN_BASE_PORT, registry, isReady: () => ready }).catch(
    (error: unknown) => {
      throw listenError(error, config.PARLEY_ADMIN_BASE_PORT, "PARLEY_ADMIN_BASE_PORT");
    },
  );
  for (const [index, component] of components.entries()) {
    const grpcPort = config.PARLEY_GRPC_BASE_PORT + index;
    const started = await component.start({ env, process: config, log, registry, grpcPort });
    running.push(started);
    ports.set(component.name, started.port);
  }
  for (const component of running) component.setServing(true);
  ready = true;

  return {
    ports,
    adminPort: admin.port,
    log,
    async stop() {
      ready = false;
      for (const component of running) component.setServing(false);
      await delay(config.PARLEY_DRAIN_DELAY);
      const giveUp = AbortSignal.timeout(config.PARLEY_DRAIN_TIMEOUT);
      // In reverse: what the gateway has accepted still finds the services.
      for (const component of running.toReversed()) await component.drain(giveUp);
      admin.close();
    },
  };
}

/**
 * Runs components until the process is told to stop, by SIGTERM or SIGINT: then it drains and
 * exits with 0. A second signal ends it at once. What keeps it from starting is told in a line
 * each, and it exits with 1. Started by a parent with an IPC channel, it tells it `ready`, and
 * stops when the parent is gone.
 */
export async function serve(components: readonly Component[], onReady: (running: RunningProcess) => void = () => {}): Promise<void> {
  const running = await startProcess(components).catch((error: unknown) => {
    if (!(error instanceof ConfigError || error instanceof StartError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  });
  onStopSignal({
    async stop(signal) {
      running.log.info({ signal }, "draining; a second signal ends the process at once");
      await running.stop();
      running.log.info("stopped");
      process.exit(0);
    },
    kill: () => process.exit(1),
  });
  process.on("uncaughtException", (error) => {
    running.log.fatal({ err: error }, "uncaught exception");
    process.exit(1);
  });
  running.log.info({ ports: Object.fromEntries(running.ports), admin_port: running.adminPort }, "ready");
  process.send?.("ready");
  onReady(running);
}

/** Where the process's own services, on ports in a row, are found by each other. */
function targetsOf(names: readonly string[], host: string, basePort: number): NodeJS.ProcessEnv {
  const address = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "[::1]" : host.includes(":") ? `[${host}]` : host;
  return Object.fromEntries(names.map((name, index) => [targetVariable(name), `dns:///${address}:${basePort + index}`]));
}
