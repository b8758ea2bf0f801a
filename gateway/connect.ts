import type { Interceptor, MethodImplSpec } from "@connectrpc/connect";
import { createUniversalMethodHandler, type UniversalHandler } from "@connectrpc/connect/protocol";
import { createHandlerFactory as createConnectFactory } from "@connectrpc/connect/protocol-connect";
import { createHandlerFactory as createGrpcFactory } from "@connectrpc/connect/protocol-grpc";
import { createHandlerFactory as createGrpcWebFactory } from "@connectrpc/connect/protocol-grpc-web";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { Shutdown } from "@parley/chassis/rpc/shutdown.ts";
import { types } from "./contracts.ts";

/** setTimeout fires at once above this many milliseconds; a longer timeout is refused. */
const maxTimeoutMs = 2 ** 31 - 1;

/** Returns the handler of each method by its path, such as `/parley.greeter.v1.GreeterService/Hello`, for Connect, gRPC-Web and gRPC. */
export function createConnectHandlers(options: {
  readonly methods: readonly MethodImplSpec[];
  readonly interceptors: Interceptor[];
  readonly maxMessageBytes: number;
  readonly shutdown: Shutdown;
}): ReadonlyMap<string, UniversalHandler> {
  return new Map(
    options.methods.map((spec) => {
      const handlerOptions = {
        interceptors: options.interceptors,
        readMaxBytes: options.maxMessageBytes,
        maxTimeoutMs,
        acceptCompression: [compressionGzip, compressionBrotli],
        shutdownSignal: options.shutdown.signalFor(spec.kind),
        // A misspelt field is told, not dropped.
        jsonOptions: { registry: types, ignoreUnknownFields: false },
      };
      const protocols = [createGrpcFactory, createGrpcWebFactory, createConnectFactory].map((create) => create(handlerOptions));
      const handler = createUniversalMethodHandler(spec, protocols);
      return [handler.requestPath, handler];
    }),
  );
}
