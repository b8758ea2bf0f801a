import type { JsonValue } from "@bufbuild/protobuf";

/** How the answers of a server's stream are written, one after the other. */
export interface StreamForm {
  readonly contentType: string;
  message(json: JsonValue): string;
  /** What comes last: `status` is google.rpc.Status as JSON; `failed`: its code is not OK. */
  end(status: JsonValue, failed: boolean): string;
  /** What is sent now and then while nothing else is, so that nobody on the way takes the connection for dead. */
  readonly heartbeat: string | undefined;
}

/** A line of JSON for each message; the lines have the form of grpc-gateway's, so that an error is no message. */
const jsonLines: StreamForm = {
  contentType: "application/x-ndjson",
  message: (json) => `${JSON.stringify({ result: json })}\n`,
  end: (status, failed) => (failed ? `${JSON.stringify({ error: status })}\n` : ""),
  heartbeat: undefined,
};

/**
 * Server-sent events (HTML Standard, section 9.2). The last event is named `status`: an `EventSource`
 * closes itself then, or it would ask again.
 */
export const eventStream: StreamForm = {
  contentType: "text/event-stream",
  message: (json) => `data: ${JSON.stringify(json)}\n\n`,
  end: (status) => `event: status\ndata: ${JSON.stringify(status)}\n\n`,
  heartbeat: ":\n\n",
};

/** Returns the form that a client asks for in its header `accept`. */
export function streamFormOf(accept: string | null): StreamForm {
  const types = (accept ?? "").split(",").map((part) => part.split(";", 1)[0]?.trim().toLowerCase());
  return types.includes(eventStream.contentType) ? eventStream : jsonLines;
}

/** Yields what an iterator does, and `heartbeat` whenever it yields nothing for a time. */
export async function* withHeartbeat<T>(values: AsyncIterable<T>, heartbeat: T | undefined, everyMs: number): AsyncGenerator<T> {
  if (heartbeat === undefined) return yield* values;
  const iterator = values[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = iterator.next();
      let result = await withinTime(next, everyMs);
      for (; result === undefined; result = await withinTime(next, everyMs)) yield heartbeat;
      if (result.done === true) return;
      yield result.value;
    }
  } finally {
    await iterator.return?.();
  }
}

/** Resolves to undefined where the promise takes longer. */
export async function withinTime<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(late.resolve, ms, undefined);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
