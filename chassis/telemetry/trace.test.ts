import { INVALID_SPAN_CONTEXT, SpanKind, TraceFlags } from "@opentelemetry/api";
import { expect, test } from "vitest";
import { parseTraceparent, startSpan, toTraceparent } from "./trace.ts";

const [traceId, spanId] = ["4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"];

test("a traceparent is read as it is written", () => {
  const text = `00-${traceId}-${spanId}-01`;
  const context = parseTraceparent(text);
  expect(context).toMatchObject({ traceId, spanId, traceFlags: TraceFlags.SAMPLED, isRemote: true });
  expect(toTraceparent(context ?? INVALID_SPAN_CONTEXT)).toBe(text);
});

test.each([
  null,
  "",
  `00-${"0".repeat(32)}-${spanId}-01`,
  `00-${traceId}-${"0".repeat(16)}-01`,
  `01-${traceId}-${spanId}-01`,
  `00-${traceId.toUpperCase()}-${spanId}-01`,
  `00-${traceId}-${spanId}-01-more`,
  `00-${traceId}-${spanId}`,
])("%j is no traceparent", (text) => {
  expect(parseTraceparent(text)).toBeUndefined();
});

test("a span without a tracer is not recorded, but has ids of its own in its parent's trace, and is sampled as that is", () => {
  const parent = parseTraceparent(`00-${traceId}-${spanId}-01`);
  const span = startSpan(undefined, "call", { kind: SpanKind.SERVER, parent });
  expect(span.isRecording()).toBe(false);
  expect(span.spanContext()).toMatchObject({ traceId, traceFlags: TraceFlags.SAMPLED });
  expect(span.spanContext().spanId).not.toBe(spanId);
  const [first, second] = [1, 2].map(() => startSpan(undefined, "call", { kind: SpanKind.SERVER, parent: undefined }).spanContext());
  expect(first?.traceId).not.toBe(second?.traceId);
  expect(first?.traceFlags).toBe(TraceFlags.NONE);
});
