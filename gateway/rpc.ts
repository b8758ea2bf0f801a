import type { Registry } from "@bufbuild/protobuf";
import { Code, ConnectError, createContextKey, type Interceptor, type MethodImplSpec } from "@connectrpc/connect";
import {
  createAsyncIterable,
  createUniversalMethodHandler,
  type UniversalHandler,
  type UniversalHandlerFn,
} from "@connectrpc/connect/protocol";
import { createHandlerFactory as createConnectFactory, errorFromJsonBytes, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { createHandlerFactory as createGrpcFactory } from "@connectrpc/connect/protocol-grpc";
import { createHandlerFactory as createGrpcWebFactory } from "@connectrpc/connect/protocol-grpc-web";
import type { Shutdown } from "@parley/chassis/rpc/shutdown.ts";
import { compressions, compressMinBytes } from "./compression.ts";

/** A longer timeout of a client is refused: above 2^31 - 1 ms setTimeout fires at once, and grpc-js adds to it what it has read. */
const maxTimeoutMs = 24 * 24 * 3_600_000;

/** Returns the handler of each method by its path, such as `/parley.greeter.v1.GreeterService/Hello`, for Connect, gRPC-Web and gRPC. */
export function createRpcHandlers(options: {
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
        interceptors: [markReached, ...options.interceptors],
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

/** Whether a call's request was read, and its method reached. */
const reachedKey = createContextKey(false, { description: "reached" });
const markReached: Interceptor = (next) => (req) => {
  req.contextValues.set(reachedKey, true);
  return next(req);
};

/**
 * Connect says INTERNAL, 500, of a body that is no protobuf, which is a fault of its client's: what no
 * method was reached with is INVALID_ARGUMENT. Of gRPC it stays as it is in gRPC's table of codes (statuscodes.md).
 */
function withClientFaults(handler: UniversalHandler): UniversalHandlerFn {
  return async (request) => {
    const answer = await handler(request);
    if (answer.status === 405) return { ...answer, header: new Headers({ allow: handler.allowedMethods.join(", ") }) }; // RFC 9110, section 15.5.6
    if (answer.status !== 500 || answer.body === undefined || request.contextValues?.get(reachedKey) === true) return answer;
    const bytes = Buffer.concat(await Array.fromAsync(answer.body));
    const { rawMessage } = errorFromJsonBytes(bytes, undefined, new ConnectError("the body cannot be read", Code.Internal));
    const body = errorToJsonBytes(new ConnectError(rawMessage, Code.InvalidArgument), undefined);
    const header = new Headers({ "content-type": "application/json", "content-length": String(body.byteLength) });
    return { status: 400, header, body: createAsyncIterable([body]) };
  };
}
