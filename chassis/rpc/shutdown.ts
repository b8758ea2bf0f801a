import type { DescMethod } from "@bufbuild/protobuf";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { fail } from "./errors.ts";

/** When the time to drain is over, how long the last answers have to reach their clients, in milliseconds. */
export const flushMs = 1_000;

/** Ends the calls of a server that stops: streams when it begins to, unary calls when it gives up waiting for them. */
export interface Shutdown {
  /** The signal that ends calls of this kind, with `UNAVAILABLE` as its reason. */
  signalFor(kind: DescMethod["methodKind"]): AbortSignal;
  begin(giveUp: AbortSignal): void;
}

/** Creates the shutdown of what goes by this name, such as `the server`. */
export function createShutdown(name: string): Shutdown {
  const [streams, unary] = [new AbortController(), new AbortController()];
  return {
    signalFor: (kind) => (kind === "unary" ? unary : streams).signal,
    begin(giveUp) {
      const stopping = fail(ErrorReason.UNAVAILABLE, `${name} is stopping; try again`);
      streams.abort(stopping);
      if (giveUp.aborted) unary.abort(stopping);
      else giveUp.addEventListener("abort", () => unary.abort(stopping), { once: true });
    },
  };
}
