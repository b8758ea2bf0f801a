import { randomUUID } from "node:crypto";
import type { ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import type { Logger } from "pino";
import { findCurrentCall } from "./current-call.ts";
import { fail } from "./errors.ts";

/** Logs what went wrong, with its stack, under an id, and returns the error that shows the caller the id and nothing else. */
export function internalError(error: unknown, log: Logger, fields: Record<string, unknown> = {}): ConnectError {
  const errorId = randomUUID();
  const call = findCurrentCall();
  log.error({ err: error, error_id: errorId, request_id: call?.requestId, trace_id: call?.traceId, ...fields }, "unexpected error");
  return fail(ErrorReason.INTERNAL, `internal error ${errorId}; tell it to whoever runs the service`, { errorId });
}
