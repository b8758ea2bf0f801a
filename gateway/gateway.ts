import { ConnectError, createContextValues } from "@connectrpc/connect";
import type { UniversalHandlerFn } from "@connectrpc/connect/protocol";
import { createAuthenticate } from "@parley/chassis/auth/authenticate.ts";
import { type Config, readConfig } from "@parley/chassis/config.ts";
import { peerKey } from "@parley/chassis/rpc/context-keys.ts";
import { criticalityOf } from "@parley/chassis/rpc/contract.ts";
import { fail, retryAfter } from "@parley/chassis/rpc/errors.ts";
import { gatewayInterceptors } from "@parley/chassis/rpc/interceptors/all.ts";
import { loadShedding } from "@parley/chassis/rpc/interceptors/load-shedding.ts";
import { internalError } from "@parley/chassis/rpc/internal-error.ts";
import { createLoadShedder } from "@parley/chassis/rpc/load-shedder.ts";
import { createReflection } from "@parley/chassis/rpc/reflection.ts";
import { createShutdown } from "@parley/chassis/rpc/shutdown.ts";
import { type Neighbours, openTransports, targetsConfig } from "@parley/chassis/rpc/transports.ts";
import type { Component } from "@parley/chassis/service.ts";
import { listenError, StartError } from "@parley/chassis/start-error.ts";
import { openTlsFiles, type TlsFiles } from "@parley/chassis/tls-files.ts";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import type { Logger } from "pino";
import { Counter } from "prom-client";
import { callEndKey, logRequest, reportCallEnd } from "./access-log.ts";
import { createClientAddresses } from "./client-address.ts";
import { gatewayConfig } from "./config.ts";
import { contractsOf, types } from "./contracts.ts";
import { answerCors } from "./cors.ts";
import { unknownMethod } from "./error-response.ts";
import { serveRequest } from "./node-handler.ts";
import { cut, isGone, type NodeRequest, type NodeResponse, pathOf } from "./node-request.ts";
import { openOnePort } from "./one-port.ts";
import { createPages } from "./pages.ts";
import { protocolOf } from "./protocol.ts";
import { createRateLimit } from "./rate-limit.ts";
import { refuseCall } from "./refuse.ts";
import { relay } from "./relay.ts";
import { endBody } from "./request-body.ts";
import { createRest } from "./rest.ts";
import { createRpcHandlers } from "./rpc.ts";

/** When to try again a call that was one too many in progress. */
const retryMs = 1_000;
/** Time that such a call's body has to come to its end: it is dropped, so that the client reads the refusal. */
const refusedBodyMs = 1_000;
const tooManyCalls = {
  all: fail(ErrorReason.UNAVAILABLE, "the gateway has too many calls in progress: try again", {}, retryAfter(retryMs)),
  client: fail(
    ErrorReason.TOO_MANY_CALLS,
    "too many calls of this client are in progress: end some, or try again",
    {},
    retryAfter(retryMs),
  ),
};

/**
 * Creates the gateway in front of the services named: it opens each method of their contracts to
 * Connect, gRPC-Web, gRPC and REST, on one port, and passes calls on. It owns no data and speaks
 * for nobody.
 */
export function createGateway(serviceNames: readonly string[]): Component {
  return {
    name: "gateway",
    config: { ...gatewayConfig, ...targetsConfig(serviceNames) },
    neighbours: serviceNames,
    async start(runtime) {
      const { env, common, telemetry } = runtime;
      const { log, registry } = telemetry;
      const config = readConfig(gatewayConfig, env);
      const neighbours: Neighbours = Object.fromEntries(serviceNames.map((name) => [name, contractsOf(name)]));
      const contracts = Object.values(neighbours).flat();
      const transports = openTransports(neighbours, runtime);
      const shutdown = createShutdown("the gateway");
      const methods = Object.entries(neighbours).flatMap(([name, served]) =>
        served.flatMap((contract) => relay(contract, transports.get(name))),
      );
      const reflection = config.PARLEY_GATEWAY_REFLECTION === "on" ? createReflection(contracts) : [];
      const shedder = createLoadShedder(telemetry, runtime.eventLoop);
      const options = {
        methods: [...methods, ...reflection.flatMap((served) => Object.values(served.methods))],
        interceptors: gatewayInterceptors({ telemetry, shed: loadShedding(shedder), report: reportCallEnd }),
        unexpected: (error: unknown) => (error instanceof ConnectError ? error : internalError(error, log)),
        maxMessageBytes: common.PARLEY_MAX_MESSAGE_BYTES,
        shutdown,
      };
      const rpc = createRpcHandlers({ ...options, types });
      const pages = createPages(contracts);
      const findRest = createRest({ ...options, reservedPaths: [...pages.keys()] });
      const addresses = createClientAddresses(config.PARLEY_GATEWAY_TRUSTED_PROXIES);
      const origins = new Set(config.PARLEY_CORS_ORIGINS);
      const rateLimit =
        config.PARLEY_GATEWAY_RATE_LIMIT > 0
          ? createRateLimit({
              perSecond: config.PARLEY_GATEWAY_RATE_LIMIT,
              burst: config.PARLEY_GATEWAY_RATE_BURST,
              authenticate: createAuthenticate(config),
            })
          : undefined;
      const refused = new Counter({
        name: "gateway_refused_total",
        help: "Calls refused: too many in progress, in all or of a client, or too many a second. Those of an overload are shed calls.",
        labelNames: ["because"],
        registers: [registry],
      });
      const tls = await openTls(config, log);

      const handle = async (request: NodeRequest, response: NodeResponse): Promise<void> => {
        const client = addresses.clientOf(request);
        const end = logRequest(request, response, client, log);
        response.setHeader("x-content-type-options", "nosniff");
        const path = pathOf(request);
        const found = rpc.get(path);
        const isStream = found?.method.methodKind === "client_streaming" || found?.method.methodKind === "bidi_streaming";
        endBody(request, response, { timeoutMs: config.PARLEY_GATEWAY_BODY_TIMEOUT, isStream });
        if (answerCors(request, response, origins)) return;
        const page = pages.get(path);
        if (rateLimit !== undefined && page === undefined) {
          const refusal = await rateLimit(request, client);
          if (response.headersSent || isGone(response)) return; // it took too long
          if (refusal !== undefined) {
            refused.inc({ because: "rate" });
            end.error = refusal;
            return refuseCall(request, response, refusal);
          }
        }
        const isRest = found === undefined && page === undefined && protocolOf(request) === "rest";
        const target = isRest ? findRest(request.method ?? "GET", path || "/") : undefined;
        const method = found?.method ?? target?.method;
        const overload = method && shedder.refusalOf(criticalityOf(method));
        if (overload !== undefined) {
          end.error = overload;
          return refuseCall(request, response, overload);
        }
        const handler: UniversalHandlerFn = found ?? page ?? target?.handle ?? (async () => unknownMethod(request));
        const contextValues = createContextValues().set(peerKey, client).set(callEndKey, end);
        await serveRequest(request, response, { handler, contextValues, maxMessageBytes: common.PARLEY_MAX_MESSAGE_BYTES, log });
      };
      const listener = await openOnePort({
        host: common.PARLEY_HOST,
        port: config.PARLEY_GATEWAY_PORT,
        handler: (request, response) => {
          handle(request, response).catch((error: unknown) => {
            log.error({ err: error, "url.path": pathOf(request) }, "a request could not be answered");
            cut(response);
          });
        },
        refuse: (request, response, tooMany) => {
          refused.inc({ because: tooMany });
          const error = tooManyCalls[tooMany];
          logRequest(request, response, addresses.clientOf(request), log).error = error;
          response.setHeader("x-content-type-options", "nosniff");
          endBody(request, response, { timeoutMs: refusedBodyMs, isStream: false });
          if (!answerCors(request, response, origins)) void refuseCall(request, response, error);
        },
        tls,
        addresses,
        headerTimeoutMs: config.PARLEY_GATEWAY_HEADER_TIMEOUT,
        unreadTimeoutMs: config.PARLEY_GATEWAY_UNREAD_TIMEOUT,
        maxConnections: config.PARLEY_GATEWAY_MAX_CONNECTIONS,
        maxConnectionsPerClient: config.PARLEY_GATEWAY_MAX_CONNECTIONS_PER_CLIENT,
        maxStreams: config.PARLEY_GATEWAY_MAX_STREAMS,
        maxRequests: config.PARLEY_GATEWAY_MAX_CALLS,
        maxRequestsPerClient: config.PARLEY_GATEWAY_MAX_CALLS_PER_CLIENT,
      }).catch((error: unknown) => {
        throw listenError(error, config.PARLEY_GATEWAY_PORT, "PARLEY_GATEWAY_PORT");
      });
      return {
        port: config.PARLEY_GATEWAY_PORT,
        setServing: (serving) => {
          if (!serving) listener.announceDrain();
        },
        async drain(giveUp) {
          shutdown.begin(giveUp);
          await listener.drain(giveUp);
          transports.close();
          tls?.close();
        },
      };
    },
  };
}

/** Throws StartError where only one of the two files is named, or where they cannot be used. */
async function openTls(config: Config<typeof gatewayConfig>, log: Logger): Promise<TlsFiles | undefined> {
  const { PARLEY_GATEWAY_TLS_CERT_FILE: certFile, PARLEY_GATEWAY_TLS_KEY_FILE: keyFile } = config;
  if (certFile !== undefined && keyFile !== undefined) return openTlsFiles({ cert: certFile, key: keyFile }, log);
  if (certFile === undefined && keyFile === undefined) return undefined;
  throw new StartError("PARLEY_GATEWAY_TLS_CERT_FILE and PARLEY_GATEWAY_TLS_KEY_FILE are set together, or neither is");
}
