import type { ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import type { CurrentCall } from "../rpc/current-call.ts";
import { statusName } from "../rpc/errors.ts";

/** Returns what each line of the log says of the call that it belongs to: ids, by which the lines of all services can be brought together. */
export function fieldsOf(call: CurrentCall): Record<string, unknown> {
  const { traceId, spanId } = call.span.spanContext();
  const fields: Record<string, unknown> = { trace_id: traceId, span_id: spanId, request_id: call.requestId };
  for (const [name, value] of call.about) fields[name] = value;
  return fields;
}

/** Returns what a line of a call that failed says of it. */
export function failureFields(error: ConnectError): Record<string, unknown> {
  const [info] = error.findDetails(ErrorInfoSchema);
  return {
    "error.type": info?.reason ?? statusName(error),
    "error.message": error.rawMessage,
    ...(info?.metadata["errorId"] && { error_id: info.metadata["errorId"] }),
  };
}

/** Returns the time since, on the clock of performance.now(), in milliseconds with microseconds. */
export function durationSince(startedMs: number): number {
  return Math.round((performance.now() - startedMs) * 1_000) / 1_000;
}
