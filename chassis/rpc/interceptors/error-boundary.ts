import { randomUUID } from "node:crypto";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import type { Logger } from "pino";
import { findCurrentCall } from "../current-call.ts";
import { type ErrorDetail, fail } from "../errors.ts";
import { aroundSteps, type Request } from "./steps.ts";

/**
 * Decides which errors leave the service.
 *
 * Errors of the handler's own pass. An unexpected exception becomes `INTERNAL` with an id, under
 * which the log holds its stack. A neighbour's error that the handler did not answer in its own
 * words is not the caller's business either, but for three codes: it was cancelled, took too
 * long, or cannot be had right now. With `relay`, as in the gateway, a neighbour's errors pass.
 */
export function errorBoundary(options: { log: Logger; neighbours: "answer" | "relay" }): Interceptor {
  return (next) => (req) =>
    aroundSteps(
      () => next(req),
      async (step) => {
        try {
          return await step();
        } catch (error) {
          throw outward(error, req);
        }
      },
    );

  function outward(error: unknown, req: Request): ConnectError {
    if (!(error instanceof ConnectError)) return req.signal.aborted ? cancelled() : internal(error, req);
    return error.isWireError && options.neighbours === "answer" ? answer(error, req) : error;
  }

  function answer(error: ConnectError, req: Request): ConnectError {
    const retry: ErrorDetail[] = error.findDetails(RetryInfoSchema).map((value) => ({ desc: RetryInfoSchema, value }));
    switch (error.code) {
      case Code.Canceled:
        return cancelled();
      case Code.DeadlineExceeded:
        return fail(ErrorReason.DEADLINE_EXCEEDED, "a service that this one needs did not answer in time; try again");
      case Code.Unavailable:
        return unavailable(retry);
      case Code.ResourceExhausted:
        // It asks us to slow down, which is no fault of our caller's.
        return retry.length > 0 ? unavailable(retry) : internal(error, req);
      default:
        return internal(error, req);
    }
  }

  function internal(error: unknown, req: Request): ConnectError {
    const errorId = randomUUID();
    const call = findCurrentCall();
    options.log.error(
      {
        err: error,
        error_id: errorId,
        method: `${req.service.typeName}/${req.method.name}`,
        request_id: call?.requestId,
        trace_id: call?.traceId,
      },
      "unexpected error",
    );
    return fail(ErrorReason.INTERNAL, `internal error ${errorId}; tell it to whoever runs the service`, { errorId });
  }
}

function cancelled(): ConnectError {
  return fail(ErrorReason.CANCELLED, "the call was cancelled");
}

function unavailable(details: ErrorDetail[]): ConnectError {
  return fail(ErrorReason.UNAVAILABLE, "a service that this one needs is unavailable; try again", {}, ...details);
}
