import { AsyncLocalStorage } from "node:async_hooks";
import type { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";

/** What the handler that is running now was called with, as far as its own calls need it. */
export interface CurrentCall {
  /** `x-request-id`: the same for all calls that one request of a user leads to. */
  readonly requestId: string;
  /** The headers that are passed on to every further call, `x-request-id` and `traceparent` among them. */
  readonly passedOn: ReadonlyMap<string, string>;
  /** The trace's id, 32 hex digits. */
  readonly traceId: string;
  /** The method, such as `parley.orders.v1.OrdersService/PlaceOrder`. */
  readonly method: string;
  /** How much depends on it, and so on all that its handler calls. */
  readonly criticality: Criticality;
  /** When the call's deadline is, on the clock of performance.now(); undefined: it has none. */
  readonly deadlineMs: number | undefined;
  /** Fires when the call is cancelled or its deadline is over. */
  readonly signal: AbortSignal | undefined;
  /** Whether this is work that outlives the call: nobody's token is with it. */
  readonly isBackground: boolean;
}

const storage = new AsyncLocalStorage<CurrentCall>();

/** Returns the call whose handler is running; undefined outside of one. */
export function findCurrentCall(): CurrentCall | undefined {
  return storage.getStore();
}

/** Runs `work`, and all that it starts, as part of the call. */
export function runInCall<T>(call: CurrentCall, work: () => T): T {
  return storage.run(call, work);
}

/**
 * Runs `work` so that it outlives the current call: its further calls keep the request's and the
 * trace's ids, but neither its deadline nor its cancellation nor its user's token.
 */
export function detach<T>(work: () => T): T {
  const call = storage.getStore();
  if (call === undefined) return work();
  const passedOn = new Map(call.passedOn);
  passedOn.delete("authorization");
  return storage.run({ ...call, passedOn, deadlineMs: undefined, signal: undefined, isBackground: true }, work);
}
