import { once } from "node:events";
import { isIPv6 } from "node:net";
import type { DescMethod, Message } from "@bufbuild/protobuf";
import {
  createContextValues,
  createHandlerContext,
  type Interceptor,
  type MethodImplSpec,
  type ServiceImplSpec,
} from "@connectrpc/connect";
import { createMethodUrl, invokeUnaryImplementation, transformInvokeImplementation } from "@connectrpc/connect/protocol";
import * as grpc from "@grpc/grpc-js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { parser, serializer } from "./codec.ts";
import { deadlineKey, peerKey } from "./context-keys.ts";
import { assertAccessStated, deadlineMsOf } from "./contract.ts";
import { deadlineExceeded, fail } from "./errors.ts";
import { http2Limits } from "./http2-limits.ts";
import { headersToMetadata, metadataToHeaders } from "./metadata.ts";
import { statusOf } from "./status.ts";

/** Calls that one connection may have open at once; further ones wait on the client. */
const maxConcurrentStreams = 10_000;
/** setTimeout fires at once above this many milliseconds; a longer deadline is as good as none. */
const maxTimeoutMs = 2 ** 31 - 1;
/** Time that the last answers have to reach their clients, after which connections are cut. */
const flushMs = 1_000;

export interface ServerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly implementations: readonly ServiceImplSpec[];
  /** Run about every call, the first outermost. */
  readonly interceptors: Interceptor[];
  readonly maxMessageBytes: number;
  readonly connectionAgeMs: number;
  readonly connectionAgeGraceMs: number;
}

/** A gRPC server that listens. */
export interface RpcServer {
  readonly port: number;
  /**
   * Takes no more calls, ends streams with `UNAVAILABLE`, and resolves when all unary calls have
   * ended. Those that are left when `giveUp` fires end with `UNAVAILABLE` too.
   */
  drain(giveUp: AbortSignal): Promise<void>;
}

/**
 * Serves implementations of Connect services over gRPC without TLS.
 *
 * Throws where a contract of ours leaves a method's access open, and where the port cannot be had.
 */
export async function openServer(options: ServerOptions): Promise<RpcServer> {
  assertAccessStated(options.implementations.map(({ service }) => service));
  const streamsEnd = new AbortController();
  const unaryEnd = new AbortController();
  const server = new grpc.Server({
    "grpc.max_receive_message_length": options.maxMessageBytes,
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": maxConcurrentStreams,
    "grpc.max_connection_age_ms": options.connectionAgeMs,
    "grpc.max_connection_age_grace_ms": options.connectionAgeGraceMs,
    "grpc.max_connection_idle_ms": options.connectionAgeMs,
    "grpc.enable_channelz": 0,
  });
  raiseLimits(server);
  for (const spec of options.implementations.flatMap(({ methods }) => Object.values(methods))) {
    const { input, output } = spec.method;
    const [handler, type] =
      spec.kind === "unary"
        ? [handleUnary(spec, options.interceptors, unaryEnd.signal), "unary"]
        : [handleStream(spec, options.interceptors, streamsEnd.signal), "bidi"];
    server.register(createMethodUrl("/", spec.method), handler, serializer(output), parser(input), type);
  }
  const address = `${isIPv6(options.host) ? `[${options.host}]` : options.host}:${options.port}`;
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  return {
    port,
    async drain(giveUp) {
      const stopping = fail(ErrorReason.UNAVAILABLE, "the server is stopping; try again");
      const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      streamsEnd.abort(stopping);
      const onGiveUp = (): void => {
        unaryEnd.abort(stopping);
        setTimeout(() => server.forceShutdown(), flushMs).unref();
      };
      if (giveUp.aborted) onGiveUp();
      giveUp.addEventListener("abort", onGiveUp, { once: true });
      await closed;
      giveUp.removeEventListener("abort", onGiveUp);
    },
  };
}

/** grpc-js has no option for it: it is set where grpc-js keeps the options of its HTTP/2 servers. */
function raiseLimits(server: grpc.Server): void {
  const http2Options: unknown = Reflect.get(server, "commonServerOptions");
  if (typeof http2Options !== "object" || http2Options === null)
    throw new Error("this version of grpc-js keeps its HTTP/2 options elsewhere");
  Object.assign(http2Options, http2Limits);
}

function handleUnary(
  spec: MethodImplSpec & { kind: "unary" },
  interceptors: Interceptor[],
  shutdown: AbortSignal,
): grpc.handleUnaryCall<Message, Message> {
  return (call, callback) => {
    const context = openContext(call, spec.method, shutdown);
    invokeUnaryImplementation(spec, context, call.request, interceptors)
      .then((message) => {
        const trailer = headersToMetadata(context.responseTrailer);
        call.sendMetadata(headersToMetadata(context.responseHeader));
        callback(null, message, trailer);
      })
      .catch((error: unknown) => callback(statusOf(error, context.responseTrailer)))
      .finally(() => context.abort());
  };
}

/** Serves the three kinds of streaming as the most general one; Connect checks how many messages come in. */
function handleStream(
  spec: MethodImplSpec,
  interceptors: Interceptor[],
  shutdown: AbortSignal,
): grpc.handleBidiStreamingCall<Message, Message> {
  return async (call) => {
    const context = openContext(call, spec.method, shutdown);
    try {
      // The stream's plain iterator would destroy its writing side when reading is done.
      const requests: AsyncIterable<Message> = call.iterator({ destroyOnReturn: false });
      for await (const message of transformInvokeImplementation(spec, context, interceptors)(requests)) {
        call.sendMetadata(headersToMetadata(context.responseHeader)); // only the first counts
        if (!call.write(message)) await once(call, "drain", { signal: context.signal });
      }
      const trailer = headersToMetadata(context.responseTrailer);
      call.sendMetadata(headersToMetadata(context.responseHeader));
      call.end(trailer);
    } catch (error) {
      // Waiting for a slow reader ends with an AbortError, which says less than the signal.
      call.emit("error", statusOf(context.signal.aborted ? context.signal.reason : error, context.responseTrailer));
    } finally {
      context.abort();
    }
  };
}

/** Creates what the handler learns of its call; the caller must abort it when the call has ended. */
function openContext(
  call: grpc.ServerUnaryCall<Message, Message> | grpc.ServerDuplexStream<Message, Message>,
  method: DescMethod,
  shutdown: AbortSignal,
) {
  const deadline = call.getDeadline();
  const timeoutMs = deadline === Number.POSITIVE_INFINITY ? deadlineMsOf(method) : Number(deadline) - Date.now();
  const deadlineMs = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  const cancelled = new AbortController();
  call.once("cancelled", () => {
    // grpc-js says this also where it ended the call itself, at its deadline, up to 1 ms early.
    const over = deadlineMs !== undefined && performance.now() > deadlineMs - 1;
    cancelled.abort(over ? deadlineExceeded() : fail(ErrorReason.CANCELLED, "the caller cancelled the call"));
  });
  return createHandlerContext({
    service: method.parent,
    method,
    protocolName: "grpc",
    requestMethod: "POST",
    url: `http://${call.getHost()}${call.getPath()}`,
    requestHeader: metadataToHeaders(call.metadata),
    requestSignal: cancelled.signal,
    shutdownSignal: shutdown,
    ...(timeoutMs !== undefined && { timeoutMs: Math.min(timeoutMs, maxTimeoutMs) }),
    contextValues: createContextValues().set(peerKey, call.getPeer()).set(deadlineKey, deadlineMs),
  });
}
