import type { DescMessage, DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createContextValues, type Transport } from "@connectrpc/connect";
import { createAsyncIterable, createMethodUrl, runStreamingCall, runUnaryCall } from "@connectrpc/connect/protocol";
import * as grpc from "@grpc/grpc-js";
import type { ServiceToken } from "../auth/service-token.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { TlsFiles } from "../tls-files.ts";
import { createAttempts } from "./attempts.ts";
import { type ClientCall, startCall } from "./client-call.ts";
import { assertHedging, deadlineMsOf } from "./contract.ts";
import { channelCredentials } from "./credentials.ts";
import { findCurrentCall } from "./current-call.ts";
import { clientInterceptors } from "./interceptors/all.ts";
import { serviceConfig } from "./service-config.ts";

/** A connection with calls on it that leaves a ping without an answer is given up, in milliseconds. */
const keepaliveMs = { every: 30_000, patience: 5_000 };
/** How soon a target that could not be reached is tried again, in milliseconds: gRPC's own 1 s to 120 s outlast a rollout. */
const reconnectMs = { first: 100, atMost: 5_000 };

export interface TransportOptions {
  /** Where the contracts are served, as gRPC names targets: `dns:///greeter:50051`. */
  readonly target: string;
  readonly contracts: readonly DescService[];
  /** Who is called: the service's name. */
  readonly peerName: string;
  /** Of who calls. */
  readonly telemetry: Telemetry;
  /** What work in the background, which is for no user, is made with. Undefined, as at the gateway: the caller speaks for nobody. */
  readonly serviceToken?: ServiceToken | undefined;
  /** Whether calls are made more than once that the contract says may be. Default: true. */
  readonly retries?: boolean;
  readonly maxMessageBytes: number;
  /** Its certificate, and the authority of the server's. Undefined: without TLS. */
  readonly tls?: TlsFiles | undefined;
  /** How long a call without a deadline waits for a connection. Default: 20 s, gRPC's own limit (connection-backoff.md, MIN_CONNECT_TIMEOUT). */
  readonly connectTimeoutMs?: number;
}

/** A transport that holds connections. */
export interface OpenTransport extends Transport {
  close(): void;
}

/**
 * Opens a Connect transport over one gRPC channel, for the life of the process. It connects at
 * the first call.
 *
 * A call takes at most what its caller says, else what the contract says, and never more than is
 * left to the current call, with which it is also cancelled. Failures are ConnectErrors with
 * `isWireError` set: they are a neighbour's. To leave a stream before its end, abort its signal;
 * Connect's clients do not say when a loop over it was left.
 */
export function openTransport(options: TransportOptions): OpenTransport {
  assertHedging(options.contracts);
  const channel = new grpc.Channel(options.target, channelCredentials(options.tls), {
    "grpc.service_config": JSON.stringify(serviceConfig),
    "grpc.service_config_disable_resolution": 1,
    "grpc.max_receive_message_length": options.maxMessageBytes,
    "grpc.keepalive_time_ms": keepaliveMs.every,
    "grpc.keepalive_timeout_ms": keepaliveMs.patience,
    "grpc.initial_reconnect_backoff_ms": reconnectMs.first,
    "grpc.max_reconnect_backoff_ms": reconnectMs.atMost,
    "grpc.dns_min_time_between_resolutions_ms": 1_000,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_http_proxy": 0,
    "grpc.enable_channelz": 0,
  });
  const { peerName, telemetry, retries = true, connectTimeoutMs = 20_000 } = options;
  const interceptors = clientInterceptors(options);
  const attempts = createAttempts({ peerName, telemetry, retries });
  const start = <I extends DescMessage, O extends DescMessage>(
    method: DescMethod & { input: I; output: O },
    deadlineMs: number | undefined,
    header: Headers,
    signal: AbortSignal,
  ): ClientCall<I, O> => {
    const timeoutMs = deadlineMs && Math.max(deadlineMs - performance.now(), 1);
    return startCall(channel, method, { timeoutMs, connectTimeoutMs, header, signal });
  };
  return {
    unary(method, signal, timeoutMs, header, message, contextValues) {
      const { caller, deadlineMs } = limitsOf(method, signal, timeoutMs);
      const common = commonOf(method, header, contextValues);
      return runUnaryCall({
        interceptors,
        ...caller,
        req: { ...common, stream: false, method, message },
        next: (req) =>
          attempts.run(method, { signal: req.signal, deadlineMs }, async (attemptSignal) => {
            const call = start(method, deadlineMs, req.header, attemptSignal);
            const answer = await callOnce(call, req.message, common.url);
            return { ...common, stream: false, method, message: answer, header: call.header, trailer: call.trailer };
          }),
      });
    },
    stream(method, signal, timeoutMs, header, messages, contextValues) {
      const { caller, deadlineMs } = limitsOf(method, signal, timeoutMs);
      const common = commonOf(method, header, contextValues);
      return runStreamingCall({
        interceptors,
        ...caller,
        req: { ...common, stream: true, method, message: messages },
        next: async (req) => {
          // A stream counts as answered with its headers: what comes after them is not sent again.
          const message = method.methodKind === "server_streaming" ? await keepAll(req.message) : req.message;
          return attempts.run(method, { signal: req.signal, deadlineMs }, async (attemptSignal) => {
            const call = start(method, deadlineMs, req.header, attemptSignal);
            void sendAll(call, message);
            await call.answered;
            return { ...common, stream: true, method, message: readAll(call), header: call.header, trailer: call.trailer };
          });
        },
      });
    },
    close: () => channel.close(),
  };
}

/** Returns messages, of which there is one, so that they can be sent again. */
async function keepAll<T>(messages: AsyncIterable<T>): Promise<AsyncIterable<T>> {
  const kept = await Array.fromAsync(messages);
  return { [Symbol.asyncIterator]: () => createAsyncIterable(kept)[Symbol.asyncIterator]() };
}

/** What a call may take, by its caller, its contract and the current call. */
function limitsOf(method: DescMethod, signal: AbortSignal | undefined, timeoutMs: number | undefined) {
  const current = findCurrentCall();
  const left = current?.deadlineMs === undefined ? Number.POSITIVE_INFINITY : current.deadlineMs - performance.now();
  const limitMs = Math.min(timeoutMs ?? deadlineMsOf(method) ?? Number.POSITIVE_INFINITY, left);
  const signals = [...new Set([signal, current?.signal])].filter((one) => one !== undefined);
  const [first, second] = signals;
  return {
    // For the channel alone: a timer of Connect's beside it would cut in with less to say.
    deadlineMs: limitMs === Number.POSITIVE_INFINITY ? undefined : performance.now() + limitMs,
    caller: first !== undefined && { signal: second === undefined ? first : AbortSignal.any(signals) },
  };
}

function commonOf(method: DescMethod, header: ConstructorParameters<typeof Headers>[0], contextValues = createContextValues()) {
  const url = createMethodUrl("/", method);
  return { service: method.parent, requestMethod: "POST", url, header: new Headers(header), contextValues };
}

async function callOnce<I extends DescMessage, O extends DescMessage>(
  call: ClientCall<I, O>,
  message: MessageShape<I>,
  url: string,
): Promise<MessageShape<O>> {
  call.send(message).catch(call.cancel);
  call.halfClose();
  const answer = await call.read();
  if (answer === undefined || (await call.read()) !== undefined)
    throw new ConnectError(`${url} did not answer with one message`, Code.Unimplemented);
  return answer;
}

async function sendAll<I extends DescMessage>(call: ClientCall<I, DescMessage>, messages: AsyncIterable<MessageShape<I>>): Promise<void> {
  try {
    for await (const message of messages) await call.send(message);
    call.halfClose();
  } catch (error) {
    call.cancel(error); // no effect where the call has ended, which is the other reason to come here
  }
}

async function* readAll<O extends DescMessage>(call: ClientCall<DescMessage, O>): AsyncGenerator<MessageShape<O>> {
  for (let message = await call.read(); message !== undefined; message = await call.read()) yield message;
}
