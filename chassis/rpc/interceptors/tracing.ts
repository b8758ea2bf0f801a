import type { ConnectError, Interceptor } from "@connectrpc/connect";
import { SpanKind } from "@opentelemetry/api";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import { endSpan, startSpan, toTraceparent } from "../../telemetry/trace.ts";
import { methodName } from "../contract.ts";
import { findCurrentCall } from "../current-call.ts";
import { statusName } from "../errors.ts";
import { serverFailures } from "../failures.ts";
import { watchEnd } from "../response.ts";

/** Ends the current call's span when the call has ended, with its status. */
export function serverTracing({ tracer }: Telemetry): Interceptor {
  if (tracer === undefined) return (next) => next;
  return (next) => (req) => {
    const span = findCurrentCall()?.span;
    if (!span?.isRecording()) return next(req);
    return watchEnd(
      req.signal,
      () => next(req),
      (error) => {
        span.setAttribute("rpc.response.status_code", statusName(error));
        endSpan(span, error !== undefined && serverFailures.has(error.code) ? failureOf(error) : undefined);
      },
    );
  };
}

/** Makes a span of each call to a neighbour, with all its tries, and tells the neighbour that it is within it. */
export function clientTracing({ tracer }: Telemetry, peerName: string): Interceptor {
  if (tracer === undefined) return (next) => next;
  return (next) => (req) => {
    const method = methodName(req.method);
    const attributes = { "rpc.system.name": "grpc", "rpc.method": method, "service.peer.name": peerName };
    const span = startSpan(tracer, method, { kind: SpanKind.CLIENT, parent: findCurrentCall()?.span.spanContext(), attributes });
    req.header.set("traceparent", toTraceparent(span.spanContext()));
    if (!span.isRecording()) return next(req);
    return watchEnd(
      req.signal,
      () => next(req),
      (error) => {
        span.setAttribute("rpc.response.status_code", statusName(error));
        endSpan(span, error && failureOf(error));
      },
    );
  };
}

function failureOf(error: ConnectError): { type: string; message: string } {
  return { type: statusName(error), message: error.rawMessage };
}
