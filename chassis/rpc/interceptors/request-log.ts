import type { Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { durationSince, failureFields } from "../../telemetry/log-fields.ts";
import { eachCounts } from "../../telemetry/repeats.ts";
import { peerKey } from "../context-keys.ts";
import { isOurs, methodName } from "../contract.ts";
import { findCurrentCall, runInCall } from "../current-call.ts";
import { statusName } from "../errors.ts";
import { severityOf } from "../failures.ts";
import { toShownJson } from "../redact.ts";
import { watchEnd } from "../response.ts";

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
        const severity = severityOf(error);
        const write = log[severity === "info" && !isOurs(req.service) ? "debug" : severity].bind(log);
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
