// A server that the runner tests: `gateway`, the HTTP server of the gateway, or `grpc`, that of services.
import { createSecureContext } from "node:tls";
import { createRegistry } from "@bufbuild/protobuf";
import { Code, ConnectError, createContextValues, type Interceptor, type ServiceImplSpec } from "@connectrpc/connect";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { openServer } from "@parley/chassis/rpc/server.ts";
import { createShutdown } from "@parley/chassis/rpc/shutdown.ts";
import { createClientAddresses } from "@parley/gateway/client-address.ts";
import { unknownMethod } from "@parley/gateway/error-response.ts";
import { serveRequest } from "@parley/gateway/node-handler.ts";
import { pathOf } from "@parley/gateway/node-request.ts";
import { openOnePort } from "@parley/gateway/one-port.ts";
import { endBody } from "@parley/gateway/request-body.ts";
import { createRpcHandlers } from "@parley/gateway/rpc.ts";
import { pino } from "pino";
import { readDelimited, writeDelimited } from "./delimited.ts";
import { ServerCompatRequestSchema, ServerCompatResponseSchema } from "./gen/connectrpc/conformance/v1/server_compat_pb.js";
import { ConformanceService, file_connectrpc_conformance_v1_service } from "./gen/connectrpc/conformance/v1/service_pb.js";
import { conformance } from "./service.ts";

const host = "127.0.0.1";
/** None: those of the suite add an ErrorInfo to each error, which is not what the judge expects. */
const interceptors: Interceptor[] = [];
const log = pino({ level: "warn" }, pino.destination(2));
const unexpected = (error: unknown): ConnectError => {
  log.error({ err: error }, "unexpected");
  return new ConnectError("internal error", Code.Internal);
};
const unimplemented = (): never => {
  throw new ConnectError("Unimplemented is not implemented", Code.Unimplemented);
};
const implementation = implement(ConformanceService, { ...conformance, unimplemented });

for await (const { messageReceiveLimit, serverCreds } of readDelimited(ServerCompatRequestSchema)) {
  const maxMessageBytes = messageReceiveLimit || 4 * 1024 * 1024;
  const open = process.argv[2] === "gateway" ? openGateway : openGrpc;
  const port = await open(implementation, maxMessageBytes, serverCreds);
  writeDelimited(ServerCompatResponseSchema, { host, port, ...(serverCreds !== undefined && { pemCert: serverCreds.cert }) });
  break;
}
await new Promise((resolve) => process.once("SIGTERM", resolve));
process.exit(0);

async function openGrpc(served: ServiceImplSpec, maxMessageBytes: number): Promise<number> {
  const { port } = await openServer({
    host,
    port: 0,
    implementations: [served],
    interceptors,
    unexpected,
    maxMessageBytes,
    connectionAgeMs: 300_000,
    connectionAgeGraceMs: 30_000,
  });
  return port;
}

async function openGateway(
  served: ServiceImplSpec,
  maxMessageBytes: number,
  creds: { cert: Uint8Array; key: Uint8Array } | undefined,
): Promise<number> {
  const handlers = createRpcHandlers({
    methods: Object.values(served.methods),
    interceptors,
    maxMessageBytes,
    shutdown: createShutdown("the gateway"),
    types: createRegistry(file_connectrpc_conformance_v1_service),
  });
  const { port } = await openOnePort({
    host,
    port: 0,
    handler: (request, response) => {
      endBody(request, response, { timeoutMs: 10_000, isStream: false });
      const handler = handlers.get(pathOf(request)) ?? (async () => unknownMethod(request));
      void serveRequest(request, response, { handler, contextValues: createContextValues(), maxMessageBytes, log });
    },
    refuse: (request) => void request.destroy(),
    tls: creds && { context: createSecureContext({ cert: Buffer.from(creds.cert), key: Buffer.from(creds.key) }) },
    addresses: createClientAddresses([]),
    headerTimeoutMs: 10_000,
    unreadTimeoutMs: 30_000,
    maxConnections: 1_000,
    maxConnectionsPerClient: 1_000,
    maxStreams: 250,
    maxRequests: 1_000,
    maxRequestsPerClient: 1_000,
  });
  return port;
}
