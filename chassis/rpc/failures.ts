import { Code, type ConnectError } from "@connectrpc/connect";

/** What says that a service, or its replica, is not well. All else, refusals above all, is an answer. */
export const failures: ReadonlySet<Code> = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.ResourceExhausted, Code.Internal]);

/** Codes with which a server has failed, in traces; others are its answer (OpenTelemetry's semantic conventions for gRPC). */
export const serverFailures: ReadonlySet<Code> = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

const faults: ReadonlySet<Code> = new Set([Code.Unknown, Code.Internal, Code.DataLoss]);

/** Whether a call ended with a mistake of the service's own, which its log tells as an error. */
export function isFault(error: ConnectError | undefined): boolean {
  return error !== undefined && faults.has(error.code);
}

/** A call that was given less, in milliseconds, was perhaps given too little: that it came to nothing in time says nothing of whom it was for. */
export const fairMs = 1_000;
