import type { Registry } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor, type MethodImplSpec } from "@connectrpc/connect";
import {
  createAsyncIterable,
  createUniversalMethodHandler,
  type UniversalHandler,
  type UniversalHandlerFn,
} from "@connectrpc/connect/protocol";
import { createHandlerFactory as createConnectFactory, errorFromJsonBytes, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { createHandlerFactory as createGrpcFactory, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { createHandlerFactory as createGrpcWebFactory } from "@connectrpc/connect/protocol-grpc-web";
import type { Shutdown } from "@parley/chassis/rpc/shutdown.ts";
import { compressions, compressMinBytes } from "./compression.ts";
import type { NodeRequest } from "./node-request.ts";

/** Whether a request is a call, as its client's protocol marks it: of gRPC, gRPC-Web, or Connect, where a client may leave it out. */
export function isMarkedCall({ headers }: NodeRequest): boolean {
  return /^application\/(grpc|connect\+)/.test(headers["content-type"] ?? "") || headers["connect-protocol-version"] !== undefined;
}

/** Answers a call of a method that there is not as the client's protocol has it. */
export const unknownMethod: UniversalHandlerFn = async (request) => {
  const { pathname } = new URL(request.url);
  const type = request.header.get("content-type") ?? "";
  const error = new ConnectError(`there is no method ${pathname}`, Code.Unimplemented);
  if (!type.startsWith("application/grpc")) {
    const body = errorToJsonBytes(error, undefined);
    return { status: 404, header: new Headers({ "content-type": "application/json" }), body: createAsyncIterable([body]) };
  }
  const status = setTrailerStatus(new Headers(), error);
  const header = new Headers({ "content-type": type });
  // A status in headers must end the stream, which Node's answer does only after them; gRPC-Web knows no trailers.
  if (!type.startsWith("application/grpc-web")) return { status: 200, header, trailer: status };
  for (const [name, value] of status) header.set(name, value);
  return { status: 200, header };
};

/** A longer timeout of a client is refused: above 2^31 - 1 ms setTimeout fires at once, and grpc-js adds to it what it has read. */
const maxTimeoutMs = 24 * 24 * 3_600_000;

/** Returns the handler of each method by its path, such as `/parley.greeter.v1.GreeterService/Hello`, for Connect, gRPC-Web and gRPC. */
export function createConnectHandlers(options: {
  readonly methods: readonly MethodImplSpec[];
  readonly interceptors: Interceptor[];
  readonly maxMessageBytes: number;
  readonly shutdown: Shutdown;
  /** What `google.protobuf.Any` may hold in JSON. */
  readonly types: Registry;
}): ReadonlyMap<string, UniversalHandler> {
  return new Map(
    options.methods.map((spec) => {
      const handlerOptions = {
        interceptors: options.interceptors,
        readMaxBytes: options.maxMessageBytes,
        maxTimeoutMs,
        acceptCompression: compressions,
        compressMinBytes,
        shutdownSignal: options.shutdown.signalFor(spec.kind),
        // A misspelt field is told, not dropped.
        jsonOptions: { registry: options.types, ignoreUnknownFields: false },
        binaryOptions: { readUnknownFields: false }, // as in our own codec
      };
      const protocols = [createGrpcFactory, createGrpcWebFactory, createConnectFactory].map((create) => create(handlerOptions));
      const handler = createUniversalMethodHandler(spec, protocols);
      return [handler.requestPath, Object.assign(withClientFaults(handler), handler)];
    }),
  );
}

/** Connect's own codec says INTERNAL of bytes that are no protobuf, which are the client's fault. gRPC has it so (statuscodes.md); Connect does not ask for it. */
function withClientFaults(handler: UniversalHandlerFn): UniversalHandlerFn {
  return async (request) => {
    const answer = await handler(request);
    if (answer.status !== 500 || answer.body === undefined) return answer;
    const bytes = Buffer.concat(await Array.fromAsync(answer.body));
    const header = new Headers(answer.header);
    const isCompressed = header.has("content-encoding");
    const error = isCompressed ? undefined : errorFromJsonBytes(bytes, undefined, new ConnectError("", Code.Internal));
    if (error?.rawMessage.startsWith("parse binary: ") !== true) return { ...answer, body: createAsyncIterable([bytes]) };
    const body = errorToJsonBytes(new ConnectError(error.rawMessage, Code.InvalidArgument), undefined);
    header.set("content-length", String(body.byteLength));
    return { ...answer, status: 400, header, body: createAsyncIterable([body]) };
  };
}
