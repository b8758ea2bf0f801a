import { Code, type ConnectError, type Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { peerKey } from "../context-keys.ts";
import { isOurs } from "../contract.ts";
import { findCurrentCall } from "../current-call.ts";
import { statusName } from "../errors.ts";
import { watchEnd } from "../response.ts";

const faults: ReadonlySet<Code> = new Set([Code.Unknown, Code.Internal, Code.DataLoss]);

/** Whether an error means that the service is at fault. */
export function isFault(error: ConnectError | undefined): boolean {
  return error !== undefined && faults.has(error.code);
}

/** Returns the time since, on the clock of performance.now(), in milliseconds with microseconds. */
export function durationSince(startedMs: number): number {
  return Math.round((performance.now() - startedMs) * 1_000) / 1_000;
}

/** Logs one line for each call when it ended: method, code, duration, peer, ids. Probes and reflection are logged at debug. */
export function requestLog(log: Logger): Interceptor {
  return (next) => (req) => {
    const startedMs = performance.now();
    const call = findCurrentCall();
    return watchEnd(
      req.signal,
      () => next(req),
      (error) => {
        log[levelOf(error, isOurs(req.service))](
          {
            method: `${req.service.typeName}/${req.method.name}`,
            code: statusName(error),
            duration_ms: durationSince(startedMs),
            peer: req.contextValues.get(peerKey),
            request_id: call?.requestId,
            trace_id: call?.traceId,
            error: error?.rawMessage,
          },
          "call",
        );
      },
    );
  };
}

function levelOf(error: ConnectError | undefined, ours: boolean): "debug" | "info" | "error" {
  if (isFault(error)) return "error";
  return ours ? "info" : "debug";
}
