import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import type { Logger } from "pino";
import { isDatabaseLost } from "../../data/database-errors.ts";
import { type ErrorDetail, errorOfAbort, fail, retryAfter, retryDelayMsOf } from "../errors.ts";
import { internalError } from "../internal-error.ts";
import { type Request, wrapResponse } from "../response.ts";

/**
 * Decides which errors leave the service.
 *
 * Errors of the handler's own pass. That the database is lost is `UNAVAILABLE`. An unexpected
 * exception becomes `INTERNAL` with an id, under which the log holds its stack. A neighbour's error
 * that the handler did not answer in its own words is not the caller's business either, but for
 * three codes: it was cancelled, took too long, or cannot be had right now. With `relay`, as in the gateway, a neighbour's errors pass.
 */
export function errorBoundary(options: { log: Logger; neighbours: "answer" | "relay" }): Interceptor {
  return (next) => (req) =>
    wrapResponse(
      () => next(req),
      async (pull) => {
        try {
          return await pull();
        } catch (error) {
          throw outward(error, req);
        }
      },
    );

  function outward(error: unknown, req: Request): ConnectError {
    if (!(error instanceof ConnectError)) {
      if (req.signal.aborted) return errorOfAbort(req.signal);
      if (!isDatabaseLost(error)) return internalError(error, options.log);
      options.log.warn({ err: error }, "the database is lost");
      return fail(ErrorReason.UNAVAILABLE, "the service cannot reach its database; try again");
    }
    return error.isWireError && options.neighbours === "answer" ? answer(error) : error;
  }

  function answer(error: ConnectError): ConnectError {
    const delayMs = retryDelayMsOf(error);
    const retry = delayMs === undefined ? [] : [retryAfter(delayMs)];
    switch (error.code) {
      case Code.Canceled:
        return fail(ErrorReason.CANCELLED, "a service that this one needs was told to stop; try again");
      case Code.DeadlineExceeded:
        return fail(ErrorReason.DEADLINE_EXCEEDED, "a service that this one needs did not answer in time; try again");
      case Code.Unavailable:
        return unavailable(retry);
      case Code.ResourceExhausted:
        // It asks us to slow down, which is no fault of our caller's.
        return retry.length > 0 ? unavailable(retry) : internalError(error, options.log);
      default:
        return internalError(error, options.log);
    }
  }
}

function unavailable(details: ErrorDetail[]): ConnectError {
  return fail(ErrorReason.NEIGHBOUR_UNAVAILABLE, "a service that this one needs is unavailable; try again", {}, ...details);
}
