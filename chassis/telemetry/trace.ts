import { randomBytes } from "node:crypto";
import {
  type Attributes,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  type SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";

/** What a span says of itself at its start. */
export interface SpanStart {
  readonly kind: SpanKind;
  /** Undefined: it begins a trace. */
  readonly parent: SpanContext | undefined;
  readonly attributes?: Attributes;
  readonly links?: Link[];
}

/**
 * Starts a span, which whoever starts it must end. Without a tracer it is one that is not recorded, but has ids, so that
 * logs can be told apart by trace; it is sampled as its parent is.
 */
export function startSpan(tracer: Tracer | undefined, name: string, { parent, ...options }: SpanStart): Span {
  if (tracer !== undefined)
    return tracer.startSpan(name, options, parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent));
  return trace.wrapSpanContext({
    traceId: parent?.traceId ?? randomBytes(16).toString("hex"),
    spanId: randomBytes(8).toString("hex"),
    traceFlags: parent?.traceFlags ?? TraceFlags.NONE,
  });
}

/** Ends a span with why it failed, where it did: `type` is what errors of its kind have in common. */
export function endSpan(span: Span, failure?: { readonly type: string; readonly message: string }): void {
  if (failure !== undefined && span.isRecording()) {
    span.setAttribute("error.type", failure.type);
    span.setStatus({ code: SpanStatusCode.ERROR, message: failure.message });
  }
  span.end();
}

/** Reads a `traceparent` (W3C Trace Context, section 3.2); undefined: it is none. */
export function parseTraceparent(text: string | null | undefined): SpanContext | undefined {
  const [, traceId, spanId, flags] = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/.exec(text ?? "") ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
}

export function toTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
}
