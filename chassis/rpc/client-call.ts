import type { DescMessage, DescMethod, MessageShape } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
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
  /** Sends a message; resolves when there is room for the next. Rejects when the call has ended. */
  send(message: MessageShape<I>): Promise<void>;
  /** Says that no more messages will be sent. */
  halfClose(): void;
  /** Returns the next message, or undefined at the end. Rejects with the call's error. One read at a time. */
  read(): Promise<MessageShape<O> | undefined>;
  cancel(): void;
}

/** Starts a call, which is cancelled when the signal fires. */
export function startCall<I extends DescMessage, O extends DescMessage>(
  channel: grpc.Channel,
  method: DescMethod & { input: I; output: O },
  options: { readonly header: Headers; readonly timeoutMs: number | undefined; readonly signal: AbortSignal },
): ClientCall<I, O> {
  const serialize = serializer(method.input);
  const parse = parser(method.output);
  const header = new Headers();
  const trailer = new Headers();
  const answered = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<undefined>();
  let arrived = Promise.withResolvers<MessageShape<O>>();
  // Whoever reads learns of a failure by read() or answered.
  answered.promise.catch(() => {});
  ended.promise.catch(() => {});

  const deadline = options.timeoutMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + options.timeoutMs;
  const call = channel.createCall(createMethodUrl("/", method), deadline, undefined, null, undefined);
  const cancel = (): void => call.cancelWithStatus(grpc.status.CANCELLED, "cancelled by the caller");
  options.signal.addEventListener("abort", cancel, { once: true });

  call.start(headersToMetadata(options.header), {
    onReceiveMetadata(metadata) {
      copyHeaders(metadataToHeaders(metadata), header);
      answered.resolve();
    },
    onReceiveMessage(bytes: Buffer) {
      try {
        arrived.resolve(parse(bytes));
      } catch {
        call.cancelWithStatus(
          grpc.status.INTERNAL,
          `${method.parent.typeName}.${method.name} answered with what is no ${method.output.typeName}`,
        );
      }
    },
    onReceiveStatus(status) {
      options.signal.removeEventListener("abort", cancel);
      copyHeaders(metadataToHeaders(status.metadata), trailer);
      if (status.code === grpc.status.OK) {
        answered.resolve();
        ended.resolve(undefined);
      } else {
        const error = failureOf(status, header, method);
        answered.reject(error);
        ended.reject(error);
      }
    },
  });
  // One message is always asked for ahead: until the first is, grpc-js buffers without bound.
  call.startRead();

  return {
    header,
    trailer,
    answered: answered.promise,
    async send(message) {
      const sent = new Promise<true>((resolve) => call.sendMessageWithContext({ callback: () => resolve(true) }, serialize(message)));
      if (!(await Promise.race([sent, ended.promise]))) throw new Error("the call has ended");
    },
    halfClose: () => call.halfClose(),
    async read() {
      const message = await Promise.race([arrived.promise, ended.promise]);
      arrived = Promise.withResolvers();
      if (message !== undefined) call.startRead();
      return message;
    },
    cancel,
  };
}

/**
 * Returns the error of a call's status. What the channel has to say names addresses and sockets,
 * so it is put in our words, and kept as the cause, for the log.
 */
function failureOf(status: grpc.StatusObject, header: Headers, method: DescMethod): ConnectError {
  const error = errorOf(status, header);
  if (isFromServer(status)) return error;
  const name = `${method.parent.typeName}.${method.name}`;
  const own = ((): ConnectError | undefined => {
    switch (error.code) {
      case Code.Unavailable:
        return fail(ErrorReason.UNAVAILABLE, `${method.parent.typeName} cannot be reached; try again`);
      case Code.DeadlineExceeded:
        return fail(ErrorReason.DEADLINE_EXCEEDED, `${name} did not answer within its deadline`);
      case Code.Canceled:
        return fail(ErrorReason.CANCELLED, `the call of ${name} was cancelled`);
      default:
        return undefined;
    }
  })();
  if (own === undefined) return error;
  own.isWireError = true;
  own.cause = error;
  return own;
}

function copyHeaders(from: Headers, to: Headers): void {
  for (const [key, value] of from) to.append(key, value);
}
