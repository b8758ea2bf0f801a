import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type ServiceImplSpec } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { type CommonConfig, type Config, type ConfigShape, readConfig } from "./config.ts";
import { createHealth } from "./rpc/health.ts";
import { serverInterceptors } from "./rpc/interceptors/all.ts";
import { warmValidation } from "./rpc/interceptors/validation.ts";
import { internalError } from "./rpc/internal-error.ts";
import { createReflection } from "./rpc/reflection.ts";
import { openServer } from "./rpc/server.ts";
import { type Neighbours, openTransports, targetsConfig } from "./rpc/transports.ts";
import { listenError } from "./start-error.ts";

/** What a process runs: a service, or the gateway. */
export interface Component {
  readonly name: string;
  /** Its variables, beside the process's. */
  readonly config: ConfigShape;
  start(runtime: Runtime): Promise<RunningComponent>;
}

/** What a component is started with. */
export interface Runtime {
  readonly env: NodeJS.ProcessEnv;
  /** What every process reads. */
  readonly common: CommonConfig;
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
export interface HandlerDependencies<Shape extends ConfigShape> {
  readonly config: Config<Shape>;
  readonly log: Logger;
  /** Returns the typed client of a contract that a neighbour serves. */
  client<Contract extends DescService>(neighbour: string, contract: Contract): Client<Contract>;
}

/** Defines a service: its name, which its own contracts carry as `parley.<name>.v1`, and what it consists of. */
export function defineService<Shape extends ConfigShape>(definition: {
  readonly name: string;
  /** Its own variables, beside those that every process has. */
  readonly config: Shape;
  /** The services that it calls. */
  readonly neighbours?: Neighbours;
  /** Pairs each contract that it serves with its handlers. */
  readonly handlers: (dependencies: HandlerDependencies<Shape>) => readonly ServiceImplSpec[];
}): Component {
  const { name, neighbours = {} } = definition;
  return {
    name,
    config: { ...definition.config, ...targetsConfig(Object.keys(neighbours)) },
    async start(runtime) {
      const { env, common, registry, grpcPort } = runtime;
      const log = runtime.log.child({ service: name });
      const transports = openTransports(neighbours, runtime);
      const implementations = definition.handlers({
        config: readConfig(definition.config, env),
        log,
        client: (neighbour, contract) => createClient(contract, transports.get(neighbour)),
      });
      const contracts = implementations.map(({ service }) => service);
      warmValidation(contracts);
      const health = createHealth(contracts.map(({ typeName }) => typeName));
      const reflection = common.PARLEY_REFLECTION === "on" ? createReflection([...contracts, health.implementation.service]) : [];
      const server = await openServer({
        host: common.PARLEY_HOST,
        port: grpcPort,
        implementations: [...implementations, health.implementation, ...reflection],
        interceptors: serverInterceptors({ log, registry }),
        unexpected: (error) => internalError(error, log),
        maxMessageBytes: common.PARLEY_MAX_MESSAGE_BYTES,
        connectionAgeMs: common.PARLEY_CONNECTION_AGE,
        connectionAgeGraceMs: common.PARLEY_CONNECTION_AGE_GRACE,
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
