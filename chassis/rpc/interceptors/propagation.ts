import type { Interceptor } from "@connectrpc/connect";
import { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";
import type { ServiceToken } from "../../auth/service-token.ts";
import { toTraceparent } from "../../telemetry/trace.ts";
import { findCurrentCall } from "../current-call.ts";
import { criticalityHeader } from "./current-call.ts";

/**
 * On the client: sends the current call's request and trace ids, and its user's token, unless the
 * caller set the header. Work in the background, which is for no user, carries the service's own
 * token; a call for somebody without a token carries none.
 */
export function propagation(serviceToken: ServiceToken | undefined): Interceptor {
  return (next) => async (req) => {
    const call = findCurrentCall();
    if (call !== undefined) {
      const own = [
        ["x-request-id", call.requestId],
        ["traceparent", toTraceparent(call.span.spanContext())],
      ] as const;
      const { criticality } = call;
      if (criticality !== undefined) req.header.set(criticalityHeader, Criticality[criticality].toLowerCase());
      for (const [name, value] of [...own, ...call.passedOn]) if (!req.header.has(name)) req.header.set(name, value);
    }
    const isBackground = call === undefined || call.isBackground;
    if (isBackground && serviceToken !== undefined && !req.header.has("authorization"))
      req.header.set("authorization", `Bearer ${await serviceToken()}`);
    return next(req);
  };
}
