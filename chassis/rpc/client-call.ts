import type { DescMessage, DescMethod, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createMethodUrl } from "@connectrpc/connect/protocol";
import * as grpc from "@grpc/grpc-js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { parser, serializer } from "./codec.ts";
import { fail } from "./errors.ts";
import { headersToMetadata, metadataToHeaders } from "./metadata.ts";
import { errorOf, isFromServer } from "./status.ts";

/** A call in progress on a gRPC channel, of any kind of streaming. */
export interface ClientCall<I extends DescMessage, O extends DescMessage> {
  /** The response's headers, complete when `answered` resolves. */
  readonly header: Headers;
  /** The response's trailers, complete when read() has returned undefined. */
  readonly trailer: Headers;
  /** Resolves with the response's headers; rejects with the call's error. */
  readonly answered: Promise<void>;
  /** Sends a message; resolves when there is room for the next. Rejects when the call has ended. One at a time. */
  send(message: MessageShape<I>): Promise<void>;
  /** Says that no more messages will be sent. */
  halfClose(): void;
  /** Returns the next message, or undefined at the end. Rejects with the call's error. One at a time. */
  read(): Promise<MessageShape<O> | undefined>;
  /** Ends the call, where it has not ended, with what went wrong on this side. */
  cancel(reason: unknown): void;
}

/** What a server's deadline may come earlier than ours, for it is sent in whole milliseconds. */
const maxClockErrorMs = 10;
/** How often a call without a deadline looks whether its channel is connected, in milliseconds. */
const lookMs = 500;

/** Starts a call, which is cancelled when the signal fires. Without a deadline, it waits `connectTimeoutMs` for a connection. */
export function startCall<I extends DescMessage, O extends DescMessage>(
  channel: grpc.Channel,
  method: DescMethod & { input: I; output: O },
  options: {
    readonly header: Headers;
    readonly timeoutMs: number | undefined;
    readonly connectTimeoutMs: number;
    readonly signal: AbortSignal;
  },
): ClientCall<I, O> {
  const metadata = sendable(options.header, method);
  const serialize = serializer(method.input);
  const parse = parser(method.output);
  const header = new Headers();
  const trailer = new Headers();
  const answered = Promise.withResolvers<void>();
  answered.promise.catch(() => {}); // whoever reads learns of it too
  let ahead: MessageShape<O> | undefined;
  let reading: PromiseWithResolvers<MessageShape<O> | undefined> | undefined;
  let sending: PromiseWithResolvers<void> | undefined;
  let end: { readonly error: ConnectError | undefined } | undefined;

  const deadline = options.timeoutMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + options.timeoutMs;
  const call = channel.createCall(createMethodUrl("/", method), deadline, undefined, null, undefined);

  const settle = (error: ConnectError | undefined): void => {
    if (end !== undefined) return;
    end = { error };
    options.signal.removeEventListener("abort", onAbort);
    if (error === undefined) {
      answered.resolve();
      reading?.resolve(undefined);
    } else {
      answered.reject(error);
      reading?.reject(error);
    }
    sending?.reject(error ?? new Error("the call has ended"));
  };
  const cancel = (reason: unknown): void => {
    settle(reason instanceof ConnectError ? reason : neighbourError(`${nameOf(method)} could not be called`, reason));
    call.cancelWithStatus(grpc.status.CANCELLED, "cancelled by the caller");
  };
  const onAbort = (): void => {
    const { reason } = options.signal;
    const isDeadline = reason instanceof ConnectError && reason.code === Code.DeadlineExceeded;
    call.cancelWithStatus(isDeadline ? grpc.status.DEADLINE_EXCEEDED : grpc.status.CANCELLED, "given up by the caller");
  };

  call.start(metadata, {
    onReceiveMetadata(received) {
      copyHeaders(metadataToHeaders(received), header);
      answered.resolve();
    },
    onReceiveMessage(bytes: Buffer) {
      try {
        ahead = parse(bytes);
      } catch (error) {
        return cancel(neighbourError(`${nameOf(method)} answered with what is no ${method.output.typeName}`, error));
      }
      if (reading !== undefined) reading.resolve(takeAhead());
    },
    onReceiveStatus(status) {
      copyHeaders(metadataToHeaders(status.metadata), trailer);
      settle(status.code === grpc.status.OK ? undefined : failureOf(status, header, method, Date.now() > deadline - maxClockErrorMs));
    },
  });
  // grpc-js waits for a connection without a limit of its own, and for that of a frozen server in vain.
  if (options.timeoutMs === undefined) {
    let lastReadyMs = performance.now();
    const look = setInterval(() => {
      const nowMs = performance.now();
      if (channel.getConnectivityState(false) === grpc.connectivityState.READY) lastReadyMs = nowMs;
      else if (nowMs - lastReadyMs > options.connectTimeoutMs) cancel(unavailable(method));
    }, lookMs);
    const stopLooking = (): void => clearInterval(look);
    answered.promise.then(stopLooking, stopLooking);
  }
  // One message is always asked for ahead: until the first is, grpc-js buffers without bound.
  call.startRead();
  if (options.signal.aborted) onAbort();
  else options.signal.addEventListener("abort", onAbort);

  /** Hands out the message that has arrived, and asks for the next. */
  function takeAhead(): MessageShape<O> | undefined {
    const message = ahead;
    ahead = undefined;
    reading = undefined;
    call.startRead();
    return message;
  }

  return {
    header,
    trailer,
    answered: answered.promise,
    async send(message) {
      if (end !== undefined) throw end.error ?? new Error("the call has ended");
      const bytes = serialize(message);
      const sent = Promise.withResolvers<void>();
      sending = sent;
      call.sendMessageWithContext({ callback: () => sent.resolve() }, bytes);
      await sent.promise;
    },
    halfClose: () => call.halfClose(),
    async read() {
      if (ahead !== undefined) return takeAhead();
      if (end === undefined) {
        reading = Promise.withResolvers();
        return reading.promise;
      }
      if (end.error !== undefined) throw end.error;
      return undefined;
    },
    cancel,
  };
}

/**
 * Returns the error of a call's status. What the channel has to say names addresses and sockets,
 * so it is put in our words, and kept as the cause, for the log.
 */
function failureOf(status: grpc.StatusObject, header: Headers, method: DescMethod, isOver: boolean): ConnectError {
  // Where it cannot decompress a message, grpc-js gives an exception for a status.
  if (!(status.code in grpc.status)) return neighbourError(`${nameOf(method)} answered with what cannot be decompressed`, status);
  const error = errorOf(status, header);
  if (isFromServer(status)) return error;
  const own = ((): ConnectError | undefined => {
    switch (error.code) {
      case Code.Unavailable:
        return unavailable(method);
      case Code.DeadlineExceeded:
        return fail(ErrorReason.DEADLINE_EXCEEDED, `${nameOf(method)} did not answer within its deadline`);
      case Code.Canceled:
        // A server whose own deadline came first resets the stream.
        if (isOver) return fail(ErrorReason.DEADLINE_EXCEEDED, `${nameOf(method)} did not answer within its deadline`);
        return fail(ErrorReason.CANCELLED, `the call of ${nameOf(method)} was cancelled`);
      case Code.Internal:
        // grpc-js knows ECONNRESET and ETIMEDOUT as lost connections, others of their kind not.
        return /triggered by internal client error: \w+ E[A-Z]+$/.test(status.details) ? unavailable(method) : undefined;
      default:
        return undefined;
    }
  })();
  if (own === undefined) return error;
  own.isWireError = true;
  own.cause = error;
  return own;
}

function unavailable(method: DescMethod): ConnectError {
  const error = fail(ErrorReason.UNAVAILABLE, `${method.parent.typeName} cannot be reached; try again`);
  error.isWireError = true;
  return error;
}

function sendable(header: Headers, method: DescMethod): grpc.Metadata {
  try {
    return headersToMetadata(header);
  } catch (error) {
    throw neighbourError(`${nameOf(method)} could not be called`, error);
  }
}

/** An error that is neither the handler's nor the caller's word, so nobody's to see. */
function neighbourError(message: string, cause: unknown): ConnectError {
  const error = new ConnectError(message, Code.Internal, undefined, undefined, cause);
  error.isWireError = true;
  return error;
}

function nameOf(method: DescMethod): string {
  return `${method.parent.typeName}.${method.name}`;
}

function copyHeaders(from: Headers, to: Headers): void {
  for (const [key, value] of from) to.append(key, value);
}
