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

/** Codes that mean a mistake of the service's own. */
const faults: ReadonlySet<Code> = new Set([Code.Unknown, Code.Internal, Code.DataLoss]);

/** How severe the end of a call is, in the log of who served it: a refusal is an answer as good as any other. */
export function severityOf(error: ConnectError | undefined): "error" | "warn" | "info" {
  if (error === undefined) return "info";
  if (faults.has(error.code)) return "error";
  return error.code === Code.Unavailable || error.code === Code.DeadlineExceeded ? "warn" : "info";
}

/** A call that was given less, in milliseconds, was perhaps given too little: that it came to nothing in time says nothing of whom it was for. */
export const fairMs = 1_000;
