import { randomUUID } from "node:crypto";
import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { SpanKind } from "@opentelemetry/api";
import { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import { parseTraceparent, startSpan } from "../../telemetry/trace.ts";
import { deadlineKey } from "../context-keys.ts";
import { criticalityOf, methodName } from "../contract.ts";
import { type CurrentCall, runInCall } from "../current-call.ts";
import { wrapResponse } from "../response.ts";

/** The request headers that a handler's own calls carry on as they came; `x-request-id`, `traceparent` and the criticality come on top. All others end here. */
const passedOnHeaders = ["authorization", "baggage", "tracestate"];
/** Tells a service for how critical a call another one calls it. Whoever calls the gateway cannot say so. */
export const criticalityHeader = "x-parley-criticality";
const criticalities = new Map(
  [Criticality.CRITICAL, Criticality.DEFAULT, Criticality.SHEDDABLE].map((one) => [Criticality[one].toLowerCase(), one]),
);

/**
 * Makes the call the current one for its handler: takes in, or makes, `x-request-id` and the W3C
 * `traceparent`, and answers with the request's id. At the edge, where anybody calls, only the contract says how
 * critical it is.
 */
export function currentCall({ isEdge, telemetry: { tracer } }: { readonly isEdge: boolean; readonly telemetry: Telemetry }): Interceptor {
  return (next) => async (req) => {
    const requestId = requestIdOf(req.header);
    const told = isEdge ? undefined : criticalities.get(req.header.get(criticalityHeader) ?? "");
    const passedOn = new Map<string, string>();
    for (const name of passedOnHeaders) {
      const value = req.header.get(name);
      // Metadata is printable ASCII (gRPC over HTTP/2, Custom-Metadata); HTTP lets more through.
      if (value !== null && /^[ -~]*$/.test(value)) passedOn.set(name, value);
    }
    const method = methodName(req.method);
    const attributes = { "rpc.system.name": "grpc", "rpc.method": method };
    const call: CurrentCall = {
      method,
      requestId,
      passedOn,
      span: startSpan(tracer, method, { kind: SpanKind.SERVER, parent: parseTraceparent(req.header.get("traceparent")), attributes }),
      tracer,
      about: new Map(),
      criticality: told ?? criticalityOf(req.method),
      deadlineMs: req.contextValues.get(deadlineKey),
      signal: req.signal,
      isBackground: false,
    };
    let header: Headers | undefined;
    const response = await wrapResponse(
      () => next(req),
      async (pull) => {
        const pulled = await runInCall(call, pull).catch((error: unknown) => {
          throw error instanceof ConnectError ? withRequestId(error, requestId) : error;
        });
        // Not before there is an answer: of a stream that fails without one, its client could not begin anew.
        header?.set("x-request-id", requestId);
        return pulled;
      },
    );
    header = response.header;
    if (!response.stream) header.set("x-request-id", requestId);
    return response;
  };
}

/**
 * Whoever gets an error needs the id most. A copy, because one error may end many calls, as that
 * of a stopping server does; a neighbour's own headers are not passed on with its error.
 */
function withRequestId(error: ConnectError, requestId: string): ConnectError {
  const answer = new ConnectError(error.rawMessage, error.code, error.isWireError ? {} : error.metadata, [], error);
  answer.details = error.details;
  answer.metadata.set("x-request-id", requestId);
  return answer;
}

/** A caller's own id is taken where it is short and plain, so that it can do no harm in logs and headers. */
function requestIdOf(header: Headers): string {
  const given = header.get("x-request-id") ?? "";
  return /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID();
}
