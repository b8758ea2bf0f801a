import { AsyncLocalStorage } from "node:async_hooks";
import { randomUUID } from "node:crypto";
import type { Attributes, Link, Span, SpanContext, SpanKind, Tracer } from "@opentelemetry/api";
import type { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";
import { endSpan, startSpan } from "../telemetry/trace.ts";

/** What the handler, or the work in the background, that is running now was called with, as far as its own calls need it. */
export interface CurrentCall {
  /** The method, such as `parley.orders.v1.OrdersService/PlaceOrder`; of work in the background what it is, such as `work customer_order`. */
  readonly method: string;
  /** `x-request-id`: the same for all calls that one request of a user leads to. */
  readonly requestId: string;
  /** Headers that are passed on to every further call as they came, such as the user's token. */
  readonly passedOn: ReadonlyMap<string, string>;
  /** Its span; recorded or not, it has ids. */
  readonly span: Span;
  /** Undefined: nothing is traced. */
  readonly tracer: Tracer | undefined;
  /** What it is about, such as `order_id`: said in each line of the log. */
  readonly about: Map<string, string>;
  /** How much depends on it, and so on all that it calls. Undefined, as of work in the background: as their contracts say. */
  readonly criticality: Criticality | undefined;
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

/** Runs `work` as part of no call: what it logs is none's. */
export function runOutsideOfCalls<T>(work: () => T): T {
  return storage.exit(work);
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

/** Where work in the background comes from: the request and the trace that led to it. */
export interface Origin {
  readonly requestId: string | undefined;
  readonly parent: SpanContext | undefined;
}

/** Work in the background, as its own call. */
export interface BackgroundWork {
  /** What it is, in few words, for spans and logs: `work customer_order`. */
  readonly name: string;
  readonly kind: SpanKind;
  readonly origin: Origin;
  readonly tracer: Tracer | undefined;
  readonly about?: ReadonlyMap<string, string>;
  readonly attributes?: Attributes;
  readonly links?: Link[];
}

/** Runs work in the background in a span of its own, within the trace that it comes from. */
export async function runInBackground<T>(work: BackgroundWork, run: (span: Span) => Promise<T>): Promise<T> {
  const { name, kind, origin, tracer, about, attributes, links } = work;
  const span = startSpan(tracer, name, { kind, parent: origin.parent, ...(attributes && { attributes }), ...(links && { links }) });
  const call: CurrentCall = {
    method: name,
    requestId: origin.requestId ?? randomUUID(),
    passedOn: new Map(),
    span,
    tracer,
    about: new Map(about),
    criticality: undefined,
    deadlineMs: undefined,
    signal: undefined,
    isBackground: true,
  };
  try {
    const result = await storage.run(call, () => run(span));
    endSpan(span);
    return result;
  } catch (error) {
    endSpan(span, { type: error instanceof Error ? error.name : "unknown", message: String(error) });
    throw error;
  }
}
