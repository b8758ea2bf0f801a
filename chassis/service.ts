import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type ServiceImplSpec } from "@connectrpc/connect";
import type { Logger } from "pino";
import { authConfig, createAuthenticate } from "./auth/authenticate.ts";
import { createServiceToken } from "./auth/service-token.ts";
import { type CommonConfig, type Config, type ConfigShape, databaseUrl, keyFile, readConfig, variableOf } from "./config.ts";
import { type Database, type DatabaseDefinition, type DatabaseOptions, databaseConfig, databaseOptions } from "./data/database.ts";
import { findDatabaseTrouble, watchDatabase } from "./data/database-trouble.ts";
import { type EventLog, openEventLog } from "./data/event-log.ts";
import { loadMigrations, migrate } from "./data/migrations.ts";
import type { EventLoopWatch } from "./event-loop.ts";
import { createHealth } from "./rpc/health.ts";
import { serverInterceptors } from "./rpc/interceptors/all.ts";
import { loadShedding } from "./rpc/interceptors/load-shedding.ts";
import { warmValidation } from "./rpc/interceptors/validation.ts";
import { internalError } from "./rpc/internal-error.ts";
import { createLoadShedder } from "./rpc/load-shedder.ts";
import { createReflection } from "./rpc/reflection.ts";
import { openServer } from "./rpc/server.ts";
import { type Neighbours, openTransports, targetsConfig } from "./rpc/transports.ts";
import { listenError, StartError } from "./start-error.ts";
import type { Telemetry } from "./telemetry/telemetry.ts";
import type { TlsFiles } from "./tls-files.ts";

/** What a process runs: a service, or the gateway. */
export interface Component {
  readonly name: string;
  /** Its variables, beside the process's. */
  readonly config: ConfigShape;
  /** The services that it calls, by their names. */
  readonly neighbours: readonly string[];
  /** Undefined: it has no database. */
  readonly database?: ComponentDatabase | undefined;
  /** The variable that says where the key is with which it signs its own tokens; undefined: it speaks for nobody. */
  readonly keyVariable?: string;
  start(runtime: Runtime): Promise<RunningComponent>;
}

/** The database of a component. */
export interface ComponentDatabase {
  /** The variable that says where it is. */
  readonly variable: string;
  /** Connections that it opens beside its pool. */
  readonly otherConnections: number;
  /** Brings it to the schema of the component's code, as start() does; returns the number of its last migration. */
  migrate(runtime: Pick<Runtime, "env"> & Pick<Telemetry, "log">): Promise<number>;
}

/** What runs until it is told to stop. */
export interface Stoppable {
  stop(): Promise<void>;
}

/** What a component is started with. */
export interface Runtime {
  readonly env: NodeJS.ProcessEnv;
  /** What every process reads. */
  readonly common: CommonConfig;
  readonly telemetry: Telemetry;
  readonly eventLoop: EventLoopWatch;
  /** What services and gateway call each other with. Undefined: without TLS. */
  readonly tls?: TlsFiles | undefined;
  /** The gRPC port that a service listens on. */
  readonly grpcPort: number;
  /** Runs about every call to a service, next to its handler: for tests that let it fail. */
  readonly around?: Interceptor | undefined;
}

/** A component that has started. */
export interface RunningComponent {
  readonly port: number;
  /** Tells health checks whether to send calls here. */
  setServing(serving: boolean): void;
  /** Returns what it lacks to do its work, such as its database; undefined: nothing. */
  findTrouble?(): Promise<string | undefined>;
  /**
   * Takes no more calls, ends streams with `UNAVAILABLE`, and resolves when all other calls have
   * ended. Those that are left when `giveUp` fires end with `UNAVAILABLE` too.
   */
  drain(giveUp: AbortSignal): Promise<void>;
}

/** What a service is made from. */
export interface Dependencies<Shape extends ConfigShape, Schema> {
  readonly config: Config<Shape>;
  readonly log: Logger;
  /** For its own metrics, beside those of its calls. */
  readonly telemetry: Telemetry;
  /** The service's own database. Throws StartError where the definition names none. */
  readonly database: Database<Schema>;
  /** The log of its events, in its database. */
  readonly eventLog: EventLog;
  /** Returns the typed client of a contract that a neighbour serves. */
  client<Contract extends DescService>(neighbour: string, contract: Contract): Client<Contract>;
}

/** What a service does. */
export interface StartedService {
  /** Pairs each contract that it serves with its handlers. */
  readonly handlers: readonly ServiceImplSpec[];
  /** What it does beside answering calls: leased work, consumers of events. When calls have ended, it stops, the last first. */
  readonly background?: readonly Stoppable[];
}

/** Defines a service: its name, which its own contracts carry as `parley.<name>.v1`, and what it consists of. */
export function defineService<Shape extends ConfigShape, Schema = never>(definition: {
  readonly name: string;
  /** Its own variables, beside those that every process has. */
  readonly config: Shape;
  /** The services that it calls. */
  readonly neighbours?: Neighbours;
  /** Those of them whose calls the client does not repeat, because the service itself does. */
  readonly withoutRetries?: readonly string[];
  readonly database?: DatabaseDefinition<Schema>;
  readonly start: (dependencies: Dependencies<Shape, Schema>) => StartedService | Promise<StartedService>;
}): Component {
  const { name, neighbours = {}, withoutRetries = [], database: defined } = definition;
  const keyVariable = variableOf(name, "KEY_FILE");
  const variable = variableOf(name, "DATABASE_URL");
  const optionsIn = (env: NodeJS.ProcessEnv): DatabaseOptions =>
    databaseOptions(name, env[variable] ?? "", readConfig(databaseConfig, env));
  const componentDatabase: ComponentDatabase | undefined = defined && {
    variable,
    otherConnections: defined.otherConnections,
    migrate: async ({ env, log }) => migrate(optionsIn(env), await loadMigrations(defined.migrations), log),
  };
  return {
    name,
    config: {
      ...definition.config,
      ...authConfig,
      [keyVariable]: keyFile(name),
      ...targetsConfig(Object.keys(neighbours)),
      ...(defined && { [variable]: databaseUrl(name), ...databaseConfig }),
    },
    neighbours: Object.keys(neighbours),
    database: componentDatabase,
    keyVariable,
    async start(runtime) {
      const { env, common, telemetry, tls, grpcPort, eventLoop } = runtime;
      const { log } = telemetry;
      const auth = readConfig(authConfig, env);
      const serviceToken = await createServiceToken(name, env[keyVariable] ?? "", auth.PARLEY_AUTH_AUDIENCE);
      const transports = openTransports(neighbours, { env, common, tls, telemetry, serviceToken, withoutRetries });
      await componentDatabase?.migrate({ env, log });
      const database = defined?.open({ ...optionsIn(env), telemetry });
      if (database !== undefined) watchDatabase(database, telemetry);
      let eventLog: EventLog | undefined;
      const getDatabase = (): Database<Schema> => {
        if (database === undefined) throw new StartError(`${name} uses a database, but its definition names none`);
        return database;
      };
      const dependencies: Dependencies<Shape, Schema> = {
        config: readConfig(definition.config, env),
        log,
        telemetry,
        get database() {
          return getDatabase();
        },
        get eventLog() {
          eventLog ??= openEventLog(getDatabase(), { source: name, log });
          return eventLog;
        },
        client: (neighbour, contract) => createClient(contract, transports.get(neighbour)),
      };
      const { handlers: implementations, background = [] } = await definition.start(dependencies);
      const contracts = implementations.map(({ service }) => service);
      warmValidation(contracts);
      const health = createHealth(contracts.map(({ typeName }) => typeName));
      const reflection = common.PARLEY_REFLECTION === "on" ? createReflection([...contracts, health.implementation.service]) : [];
      const server = await openServer({
        host: common.PARLEY_HOST,
        port: grpcPort,
        implementations: [...implementations, health.implementation, ...reflection],
        interceptors: [
          ...serverInterceptors({
            telemetry,
            shed: loadShedding(createLoadShedder(telemetry, eventLoop)),
            authenticate: createAuthenticate(auth),
          }),
          ...(runtime.around === undefined ? [] : [runtime.around]),
        ],
        unexpected: (error) => internalError(error, log),
        maxMessageBytes: common.PARLEY_MAX_MESSAGE_BYTES,
        connectionAgeMs: common.PARLEY_CONNECTION_AGE,
        connectionAgeGraceMs: common.PARLEY_CONNECTION_AGE_GRACE,
        tls,
      }).catch((error: unknown) => {
        throw listenError(error, grpcPort, "PARLEY_GRPC_BASE_PORT");
      });
      return {
        port: server.port,
        setServing: health.setServing,
        findTrouble: async () => database && findDatabaseTrouble(database),
        async drain(giveUp) {
          await server.drain(giveUp); // first: calls in progress may wait for what goes on in the background
          for (const one of background.toReversed()) await one.stop();
          transports.close();
          await eventLog?.close();
          await database?.close();
        },
      };
    },
  };
}
