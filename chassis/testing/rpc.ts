import type { DescService } from "@bufbuild/protobuf";
import {
  type Client,
  createClient,
  createRouterTransport,
  type HandlerContext,
  type ServiceImpl,
  type ServiceImplSpec,
  type Transport,
} from "@connectrpc/connect";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import type { Logger } from "pino";
import { Registry } from "prom-client";
import { onTestFinished } from "vitest";
import { createHealth, type HealthState } from "../rpc/health.ts";
import { implement } from "../rpc/implement.ts";
import { serverInterceptors } from "../rpc/interceptors/all.ts";
import { internalError } from "../rpc/internal-error.ts";
import { createReflection } from "../rpc/reflection.ts";
import { openServer, type RpcServer, type ServerOptions } from "../rpc/server.ts";
import { type OpenTransport, openTransport, type TransportOptions } from "../rpc/transport.ts";
import { createLoggerTo } from "../telemetry/log.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import { testAuth } from "./auth.ts";
import { echo } from "./echo.ts";
import { testTelemetry } from "./telemetry.ts";

/** A gRPC server of a test's own, on any free port of the loopback interface; it stops with the test. */
export interface TestServer extends RpcServer {
  readonly health: HealthState;
  readonly registry: Registry;
  readonly logs: Record<string, unknown>[];
}

/** Serves implementations as a service does, with health and reflection. */
export async function openTestServer(
  implementations: readonly ServiceImplSpec[],
  overrides: Partial<ServerOptions> = {},
): Promise<TestServer> {
  const { log, logs } = createTestLog();
  const registry = new Registry();
  const contracts = implementations.map(({ service }) => service);
  const health = createHealth(contracts.map(({ typeName }) => typeName));
  health.setServing(true);
  const server = await openServer({
    host: "127.0.0.1",
    port: 0,
    implementations: [...implementations, health.implementation, ...createReflection([...contracts, health.implementation.service])],
    interceptors: serverInterceptors({
      telemetry: testTelemetry({ log, registry }),
      shed: (next) => next,
      authenticate: (await testAuth()).authenticate,
    }),
    unexpected: (error) => internalError(error, log),
    maxMessageBytes: 4 * 1024 * 1024,
    connectionAgeMs: 300_000,
    connectionAgeGraceMs: 30_000,
    ...overrides,
  });
  onTestFinished(() => server.drain(AbortSignal.abort()));
  return { ...server, health, registry, logs };
}

/** Opens a transport to servers on the loopback interface, as a service does to its neighbours; it closes with the test. */
export function openTestTransport(
  places: readonly (number | string)[],
  { retries = true, serviceToken, ...telemetry }: Partial<Telemetry & Pick<TransportOptions, "retries" | "serviceToken">> = {},
): OpenTransport {
  const transport = openTransport({
    target: `ipv4:${places.map((place) => (typeof place === "number" ? `127.0.0.1:${place}` : place)).join(",")}`,
    contracts: [],
    peerName: "peer",
    telemetry: testTelemetry(telemetry),
    serviceToken,
    retries,
    maxMessageBytes: 4 * 1024 * 1024,
  });
  onTestFinished(() => transport.close());
  return transport;
}

/** Returns a transport to handlers in memory: a neighbour without a socket, of which a test needs only what it calls. */
export function createNeighbour<Contract extends DescService>(contract: Contract, handlers: Partial<ServiceImpl<Contract>>): Transport {
  return createRouterTransport((router) => router.service(contract, handlers));
}

/** A logger that keeps its lines. */
export function createTestLog(): { log: Logger; logs: Record<string, unknown>[] } {
  const logs: Record<string, unknown>[] = [];
  const { log } = createLoggerTo("debug", { write: (line) => void logs.push(JSON.parse(line)) });
  return { log, logs };
}

/** An echo service, some of whose handlers are the test's, and a client of it. */
export async function openTestEcho(
  handlers: Partial<typeof echo> = {},
  overrides: Partial<ServerOptions> = {},
): Promise<{ server: TestServer; client: EchoClient; url: string }> {
  const server = await openTestServer([implement(EchoService, { ...echo, ...handlers })], overrides);
  const client = createClient(EchoService, openTestTransport([server.port]));
  return { server, client, url: `http://127.0.0.1:${server.port}` };
}

type EchoClient = Client<typeof EchoService>;

/** An echo service A, whose echo calls that of an echo service B; a client of A, and what the first call saw at B. */
export async function openTestChain(
  atA: (b: EchoClient, context: HandlerContext) => Promise<unknown> = (b) => b.echo({}),
  atB: (typeof echo)["echo"] = echo.echo,
): Promise<{ server: TestServer; client: EchoClient; seen: Promise<HandlerContext> }> {
  const seen = Promise.withResolvers<HandlerContext>();
  const { client: b } = await openTestEcho({
    echo: (request, context) => {
      seen.resolve(context);
      return atB(request, context);
    },
  });
  const { client, server } = await openTestEcho({
    async echo(_request, context) {
      await atA(b, context);
      return {};
    },
  });
  return { server, client, seen: seen.promise };
}
