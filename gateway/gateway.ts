import { createContextValues } from "@connectrpc/connect";
import { type ConfigShape, count, duration, list, port, readConfig } from "@parley/chassis/config.ts";
import { peerKey } from "@parley/chassis/rpc/context-keys.ts";
import { gatewayInterceptors } from "@parley/chassis/rpc/interceptors/all.ts";
import { internalError } from "@parley/chassis/rpc/internal-error.ts";
import { createShutdown } from "@parley/chassis/rpc/shutdown.ts";
import { type Neighbours, openTransports, targetsConfig } from "@parley/chassis/rpc/transports.ts";
import type { Component } from "@parley/chassis/service.ts";
import { listenError } from "@parley/chassis/start-error.ts";
import { Counter } from "prom-client";
import { z } from "zod";
import { limitBodyTime } from "./body-time.ts";
import { createConnectHandlers, unknownMethod } from "./connect.ts";
import { contractsOf } from "./contracts.ts";
import { answerCors } from "./cors.ts";
import { answer } from "./node-handler.ts";
import type { NodeRequest, NodeResponse } from "./node-request.ts";
import { openOnePort } from "./one-port.ts";
import { refuseTooMany } from "./refuse.ts";
import { relay } from "./relay.ts";
import { createRestHandler } from "./rest.ts";

const isOrigin = (text: string): boolean => URL.canParse(text) && new URL(text).origin === text;
/** The variables of the gateway, beside those that every process has. */
export const gatewayConfig = {
  PARLEY_GATEWAY_PORT: port(8080, "HTTP port of the gateway"),
  PARLEY_GATEWAY_HEADER_TIMEOUT: duration("10s", "Time that a client has to send a request's headers"),
  PARLEY_GATEWAY_BODY_TIMEOUT: duration("10s", "Time that a client has to send the body of a request that is not a stream"),
  PARLEY_GATEWAY_UNREAD_TIMEOUT: duration(
    "30s",
    "Time after which a connection is cut off that takes nothing of what is sent; a stream, after twice that",
  ),
  PARLEY_GATEWAY_MAX_CONNECTIONS: count(10_000, "Connections that the gateway has open at once; further ones are closed"),
  PARLEY_GATEWAY_MAX_CONNECTIONS_PER_CLIENT: count(1_000, "Connections of one client address at most; raise it behind a proxy"),
  PARLEY_GATEWAY_MAX_CALLS: count(10_000, "Calls that the gateway has in progress at once; further ones are refused"),
  PARLEY_GATEWAY_MAX_CALLS_PER_CLIENT: count(500, "Calls in progress of one client address at most; raise it behind a proxy"),
  PARLEY_CORS_ORIGINS: list(
    "Origins whose pages may call the gateway from a browser, such as http://localhost:5173",
    z.string().refine(isOrigin, "origins such as http://localhost:5173, separated by commas"),
  ),
} satisfies ConfigShape;

/**
 * Creates the gateway in front of the services named: it opens each method of their contracts to
 * Connect, gRPC-Web, gRPC and REST, on one port, and passes calls on. It owns no data and speaks
 * for nobody.
 */
export function createGateway(serviceNames: readonly string[]): Component {
  return {
    name: "gateway",
    config: { ...gatewayConfig, ...targetsConfig(serviceNames) },
    async start(runtime) {
      const { env, common, registry } = runtime;
      const config = readConfig(gatewayConfig, env);
      const log = runtime.log.child({ service: "gateway" });
      const neighbours: Neighbours = Object.fromEntries(serviceNames.map((name) => [name, contractsOf(name)]));
      const transports = openTransports(neighbours, runtime);
      const shutdown = createShutdown("the gateway");
      const options = {
        methods: Object.entries(neighbours).flatMap(([name, contracts]) =>
          contracts.flatMap((contract) => relay(contract, transports.get(name))),
        ),
        interceptors: gatewayInterceptors({ log, registry }),
        unexpected: (error: unknown) => internalError(error, log),
        maxMessageBytes: common.PARLEY_MAX_MESSAGE_BYTES,
        shutdown,
      };
      const rpc = createConnectHandlers(options);
      const rest = createRestHandler(options);
      const origins = new Set(config.PARLEY_CORS_ORIGINS);

      const handler = (request: NodeRequest, response: NodeResponse): void => {
        const found = rpc.get(request.url?.split("?", 1)[0] ?? "");
        const isStream = found?.method.methodKind === "client_streaming" || found?.method.methodKind === "bidi_streaming";
        limitBodyTime(request, response, { timeoutMs: config.PARLEY_GATEWAY_BODY_TIMEOUT, isStream });
        if (answerCors(request, response, origins)) return;
        const { remoteAddress, remotePort } = request.socket;
        const contextValues = createContextValues().set(peerKey, `${remoteAddress}:${remotePort}`);
        const isGrpc = request.headers["content-type"]?.startsWith("application/grpc") === true;
        const chosen = found ?? (isGrpc ? unknownMethod : rest);
        void answer(request, response, { handler: chosen, contextValues, maxMessageBytes: common.PARLEY_MAX_MESSAGE_BYTES, log });
      };
      const refused = new Counter({
        name: "gateway_refused_total",
        help: "Calls refused because of too many in progress.",
        registers: [registry],
      });
      const listener = await openOnePort({
        host: common.PARLEY_HOST,
        port: config.PARLEY_GATEWAY_PORT,
        handler,
        refuse: (request, response) => {
          refused.inc();
          refuseTooMany(request, response);
        },
        headerTimeoutMs: config.PARLEY_GATEWAY_HEADER_TIMEOUT,
        unreadTimeoutMs: config.PARLEY_GATEWAY_UNREAD_TIMEOUT,
        maxConnections: config.PARLEY_GATEWAY_MAX_CONNECTIONS,
        maxConnectionsPerClient: config.PARLEY_GATEWAY_MAX_CONNECTIONS_PER_CLIENT,
        maxRequests: config.PARLEY_GATEWAY_MAX_CALLS,
        maxRequestsPerClient: config.PARLEY_GATEWAY_MAX_CALLS_PER_CLIENT,
      }).catch((error: unknown) => {
        throw listenError(error, config.PARLEY_GATEWAY_PORT, "PARLEY_GATEWAY_PORT");
      });
      return {
        port: config.PARLEY_GATEWAY_PORT,
        setServing: () => {}, // it has no health of its own but the process's
        async drain(giveUp) {
          shutdown.begin(giveUp);
          await listener.drain(giveUp);
          transports.close();
        },
      };
    },
  };
}
