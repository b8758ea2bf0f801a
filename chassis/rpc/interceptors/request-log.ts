import type { ConnectError, Interceptor } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import type { Logger } from "pino";
import { eachCounts } from "../../telemetry/repeats.ts";
import { peerKey } from "../context-keys.ts";
import { isOurs, methodName } from "../contract.ts";
import { findCurrentCall, runInCall } from "../current-call.ts";
import { statusName } from "../errors.ts";
import { mistakes } from "../failures.ts";
import { toShownJson } from "../redact.ts";
import { watchEnd } from "../response.ts";

/** Whether an error means that the service is at fault. */
export function isFault(error: ConnectError | undefined): boolean {
  return error !== undefined && mistakes.has(error.code);
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

/**
 * Logs one line for each call when it ended: method, code, duration, peer, ids. Probes and reflection are logged at debug. At that level the
 * requests are too, without what their contract says is not to be shown.
 */
export function requestLog(log: Logger): Interceptor {
  return (next) => (req) => {
    const startedMs = performance.now();
    const call = findCurrentCall();
    const request = !req.stream && log.isLevelEnabled("debug") ? toShownJson(req.method.input, req.message) : undefined;
    return watchEnd(
      req.signal,
      () => next(req),
      (error) => {
        const write = log[levelOf(error, isOurs(req.service))].bind(log);
        const fields = {
          "rpc.method": methodName(req.method),
          "rpc.response.status_code": statusName(error),
          duration_ms: durationSince(startedMs),
          "client.address": req.contextValues.get(peerKey),
          ...(error && failureFields(error)),
          ...(request !== undefined && { "rpc.request": request }),
          [eachCounts]: true,
        };
        // A signal ends it outside of the call.
        if (call === undefined) write(fields, "call");
        else runInCall(call, () => write(fields, "call"));
      },
    );
  };
}

function levelOf(error: ConnectError | undefined, ours: boolean): "debug" | "info" | "error" {
  if (isFault(error)) return "error";
  return ours ? "info" : "debug";
}
