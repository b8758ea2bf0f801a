import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type ServiceImplSpec } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { z } from "zod";
import { type ConfigSchema, type ProcessConfig, readConfig } from "./config.ts";
import { serviceNameOf } from "./rpc/contract.ts";
import { createHealth } from "./rpc/health.ts";
import { serverInterceptors } from "./rpc/interceptors/all.ts";
import { warmValidation } from "./rpc/interceptors/validation.ts";
import { createReflection } from "./rpc/reflection.ts";
import { openServer } from "./rpc/server.ts";
import { openTransports, targetsConfig } from "./rpc/transports.ts";
import { listenError } from "./start-error.ts";

/** What a process runs: a service, or the gateway. */
export interface Component {
  readonly name: string;
  /** Its variables, beside the process's. */
  readonly config: ConfigSchema;
  start(runtime: Runtime): Promise<RunningComponent>;
}

/** What a component is started with. */
export interface Runtime {
  readonly env: NodeJS.ProcessEnv;
  readonly process: ProcessConfig;
  readonly log: Logger;
  readonly registry: Registry;
  /** The gRPC port that a service listens on. */
  readonly grpcPort: number;
}

/** A component that has started. */
export interface RunningComponent {
  readonly port: number;
  /** Tells health checks whether to send calls here. */
  setServing(serving: boolean): void;
  /**
   * Takes no more calls, ends streams with `UNAVAILABLE`, and resolves when all other calls have
   * ended. Those that are left when `giveUp` fires end with `UNAVAILABLE` too.
   */
  drain(giveUp: AbortSignal): Promise<void>;
}

/** What the handlers of a service are made from. */
export interface HandlerDependencies<Config extends ConfigSchema> {
  readonly config: z.output<Config>;
  readonly log: Logger;
  /** Returns the typed client of a neighbour's contract, which the definition must list. */
  client<Contract extends DescService>(contract: Contract): Client<Contract>;
}

/** Defines a service: its name, which its contracts carry as `parley.<name>.v1`, and what it consists of. */
export function defineService<Config extends ConfigSchema>(definition: {
  readonly name: string;
  /** Its own variables, beside those that every process has. */
  readonly config: Config;
  /** The contracts of other services that it calls. */
  readonly neighbours: readonly DescService[];
  /** Pairs each contract that it serves with its handlers. */
  readonly handlers: (dependencies: HandlerDependencies<Config>) => readonly ServiceImplSpec[];
}): Component {
  const neighbours = Map.groupBy(definition.neighbours, serviceNameOf);
  const targets = targetsConfig([...neighbours.keys()]);
  return {
    name: definition.name,
    config: z.object({ ...definition.config.shape, ...targets.shape }),
    async start({ env, process, registry, grpcPort, ...runtime }) {
      const log = runtime.log.child({ service: definition.name });
      const transports = openTransports(neighbours, { env, process, registry });
      const implementations = definition.handlers({
        config: readConfig(definition.config, env),
        log,
        client: (contract) => createClient(contract, transports.get(serviceNameOf(contract))),
      });
      const contracts = implementations.map(({ service }) => service);
      warmValidation(contracts);
      const health = createHealth(contracts.map(({ typeName }) => typeName));
      const reflection = process.PARLEY_REFLECTION === "on" ? createReflection([...contracts, health.implementation.service]) : [];
      const server = await openServer({
        host: process.PARLEY_HOST,
        port: grpcPort,
        implementations: [...implementations, health.implementation, ...reflection],
        interceptors: serverInterceptors({ log, registry }),
        maxMessageBytes: process.PARLEY_MAX_MESSAGE_BYTES,
        connectionAgeMs: process.PARLEY_CONNECTION_AGE,
        connectionAgeGraceMs: process.PARLEY_CONNECTION_AGE_GRACE,
      }).catch((error: unknown) => {
        throw listenError(error, grpcPort, "PARLEY_GRPC_BASE_PORT");
      });
      return {
        port: server.port,
        setServing: health.setServing,
        async drain(giveUp) {
          await server.drain(giveUp);
          transports.close();
        },
      };
    },
  };
}
