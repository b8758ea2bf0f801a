import { once } from "node:events";
import { isIPv6 } from "node:net";
import type { DescMethod, Message } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createContextValues,
  createHandlerContext,
  type HandlerContext,
  type Interceptor,
  type MethodImplSpec,
  type ServiceImplSpec,
} from "@connectrpc/connect";
import { createMethodUrl, invokeUnaryImplementation, transformInvokeImplementation } from "@connectrpc/connect/protocol";
import * as grpc from "@grpc/grpc-js";
import type { TlsFiles } from "../tls-files.ts";
import { parser, serializer } from "./codec.ts";
import { deadlineKey, peerKey } from "./context-keys.ts";
import { assertAccessStated, assertHedging, deadlineMsOf } from "./contract.ts";
import { serverCredentials } from "./credentials.ts";
import { errorOfAbort } from "./errors.ts";
import { headersToMetadata, metadataToHeaders } from "./metadata.ts";
import { createShutdown, flushMs } from "./shutdown.ts";
import { statusOf } from "./status.ts";

/** Calls that one connection may have open at once; further ones wait on the client. */
const maxConcurrentStreams = 10_000;
/**
 * Limits of a connection, as options of node:http2, above Node's.
 *
 * A connection between services carries the calls of many users, and all of them fail when it is
 * closed because some of them leave. Node's own limits are made against attackers
 * (CVE-2023-44487): it closes a connection after 1,000 cancelled streams at once or 33 a second,
 * and after 100 streams beyond `maxConcurrentStreams`, among which it counts those that were
 * cancelled a moment ago. The gateway, which meets them, has lower ones.
 */
const http2Limits = { streamResetBurst: 10_000, streamResetRate: 10_000, maxSessionRejectedStreams: 10_000 };

export interface ServerOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly implementations: readonly ServiceImplSpec[];
  /** Run about every call, the first outermost. */
  readonly interceptors: Interceptor[];
  /** Returns what to show for an error that arises outside of the interceptors, such as a header that cannot be sent. */
  readonly unexpected: (error: unknown) => ConnectError;
  readonly maxMessageBytes: number;
  readonly connectionAgeMs: number;
  readonly connectionAgeGraceMs: number;
  /** Its certificate, and the authority of its clients'. Undefined: without TLS. */
  readonly tls?: TlsFiles | undefined;
}

/** A gRPC server that listens. */
export interface RpcServer {
  readonly port: number;
  /**
   * Takes no more calls, ends streams with `UNAVAILABLE`, and resolves when all unary calls have
   * ended. Those that are left when `giveUp` fires end with `UNAVAILABLE` too, and a second later
   * it resolves, whether or not their clients have read it.
   */
  drain(giveUp: AbortSignal): Promise<void>;
}

/**
 * Serves implementations of Connect services over gRPC.
 *
 * Throws where a contract of ours leaves a method's access open, and where the port cannot be had.
 */
export async function openServer(options: ServerOptions): Promise<RpcServer> {
  const contracts = options.implementations.map(({ service }) => service);
  assertAccessStated(contracts);
  assertHedging(contracts);
  const shutdown = createShutdown("the server");
  const server = new grpc.Server({
    "grpc.max_receive_message_length": options.maxMessageBytes,
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": maxConcurrentStreams,
    "grpc.max_connection_age_ms": options.connectionAgeMs,
    "grpc.max_connection_age_grace_ms": options.connectionAgeGraceMs,
    "grpc.max_connection_idle_ms": options.connectionAgeMs,
    "grpc.enable_channelz": 0,
    interceptors: [withoutOkMessage],
  });
  raiseLimits(server);
  for (const spec of options.implementations.flatMap(({ methods }) => Object.values(methods))) {
    const { input, output } = spec.method;
    const callOptions = { ...options, shutdown: shutdown.signalFor(spec.kind) };
    const [handler, type] = spec.kind === "unary" ? [handleUnary(spec, callOptions), "unary"] : [handleStream(spec, callOptions), "bidi"];
    server.register(createMethodUrl("/", spec.method), handler, serializer(output), parser(input), type);
  }
  const address = `${isIPv6(options.host) ? `[${options.host}]` : options.host}:${options.port}`;
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, serverCredentials(options.tls), (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  return {
    port,
    async drain(giveUp) {
      await new Promise<void>((resolve) => {
        server.tryShutdown(() => resolve());
        shutdown.begin(giveUp);
        // Not by forceShutdown, which without channelz leaves connections open: the process's end cuts them.
        const leaveRest = (): unknown => setTimeout(resolve, flushMs);
        if (giveUp.aborted) leaveRest();
        else giveUp.addEventListener("abort", leaveRest, { once: true });
      });
    },
  };
}

/** grpc-js says "OK" of each call that went well, where gRPC has a message for failures alone (gRPC over HTTP/2, Status-Message). */
const withoutOkMessage: grpc.ServerInterceptor = (_method, call) =>
  new grpc.ServerInterceptingCall(call, {
    sendStatus: (status, next) => next(status.code === grpc.status.OK ? { ...status, details: "" } : status),
  });

/** grpc-js has no option for it: it is set where grpc-js keeps the options of its HTTP/2 servers. */
function raiseLimits(server: grpc.Server): void {
  const http2Options: unknown = Reflect.get(server, "commonServerOptions");
  if (typeof http2Options !== "object" || http2Options === null)
    throw new Error("this version of grpc-js keeps its HTTP/2 options elsewhere");
  Object.assign(http2Options, http2Limits);
}

type CallOptions = Pick<ServerOptions, "interceptors" | "unexpected"> & { readonly shutdown: AbortSignal };

function handleUnary(spec: MethodImplSpec & { kind: "unary" }, options: CallOptions): grpc.handleUnaryCall<Message, Message> {
  return async (call, callback) => {
    const context = openContext(call, spec.method, options.shutdown);
    try {
      const message = await invokeUnaryImplementation(spec, context, call.request, options.interceptors);
      const trailer = headersToMetadata(context.responseTrailer);
      call.sendMetadata(headersToMetadata(context.responseHeader));
      callback(null, message, trailer);
    } catch (error) {
      sendHeader(call, context);
      callback(failureOf(error, context, options));
    } finally {
      context.abort();
    }
  };
}

/** Serves the three kinds of streaming as the most general one; Connect checks how many messages come in. */
function handleStream(spec: MethodImplSpec, options: CallOptions): grpc.handleBidiStreamingCall<Message, Message> {
  return async (call) => {
    const context = openContext(call, spec.method, options.shutdown);
    let answered = false;
    try {
      // The stream's plain iterator would destroy its writing side when reading is done.
      const requests: AsyncIterable<Message> = call.iterator({ destroyOnReturn: false });
      for await (const message of transformInvokeImplementation(spec, context, options.interceptors)(requests)) {
        if (!answered) call.sendMetadata(headersToMetadata(context.responseHeader));
        answered = true;
        if (!call.write(message)) await once(call, "drain", { signal: context.signal });
      }
      const trailer = headersToMetadata(context.responseTrailer);
      if (!answered) call.sendMetadata(headersToMetadata(context.responseHeader));
      call.end(trailer);
    } catch (error) {
      if (!answered) sendHeader(call, context);
      // Waiting for a slow reader ends with an AbortError, which says less than the signal.
      call.emit("error", failureOf(context.signal.aborted ? errorOfAbort(context.signal) : error, context, options));
    } finally {
      context.abort();
    }
  };
}

/** Sends what the handler has set before its call failed. Without any, the status alone is sent (gRPC over HTTP/2, Trailers-Only). */
function sendHeader(call: { sendMetadata(metadata: grpc.Metadata): void }, { responseHeader }: HandlerContext): void {
  const [first] = responseHeader;
  if (first === undefined) return;
  try {
    call.sendMetadata(headersToMetadata(responseHeader));
  } catch {
    // A header that cannot be sent is what the call failed of, and is told as such.
  }
}

/** Returns the status of a call that failed. It never throws: an error that cannot be sent is unexpected too. */
function failureOf(error: unknown, { responseTrailer }: HandlerContext, { unexpected }: CallOptions): grpc.StatusObject {
  try {
    return statusOf(error instanceof ConnectError ? error : unexpected(error), responseTrailer);
  } catch (unsendable) {
    return statusOf(unexpected(unsendable), new Headers());
  }
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
  const context = createHandlerContext({
    service: method.parent,
    method,
    protocolName: "grpc",
    requestMethod: "POST",
    url: `http://${call.getHost()}${call.getPath()}`,
    requestHeader: metadataToHeaders(call.metadata),
    requestSignal: cancelled.signal,
    shutdownSignal: shutdown,
    ...(timeoutMs !== undefined && { timeoutMs }),
    contextValues: createContextValues().set(peerKey, call.getPeer()).set(deadlineKey, deadlineMs),
  });
  // grpc-js says this at the end of every call, and where it ended the call itself, at its deadline, up to 1 ms early.
  call.once("cancelled", () => {
    if (context.signal.aborted) return;
    const over = deadlineMs !== undefined && performance.now() > deadlineMs - 1;
    cancelled.abort(new ConnectError("the call was given up", over ? Code.DeadlineExceeded : Code.Canceled));
  });
  return context;
}
