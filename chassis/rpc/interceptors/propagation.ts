import type { Interceptor } from "@connectrpc/connect";
import type { ServiceToken } from "../../auth/service-token.ts";
import { findCurrentCall } from "../current-call.ts";

/**
 * On the client: sends the current call's request and trace ids, and its user's token, unless the
 * caller set the header. Work in the background, which is for no user, carries the service's own
 * token; a call for somebody without a token carries none.
 */
export function propagation(serviceToken: ServiceToken | undefined): Interceptor {
  return (next) => async (req) => {
    const call = findCurrentCall();
    for (const [name, value] of call?.passedOn ?? []) {
      if (!req.header.has(name)) req.header.set(name, value);
    }
    const isBackground = call === undefined || call.isBackground;
    if (isBackground && serviceToken !== undefined && !req.header.has("authorization"))
      req.header.set("authorization", `Bearer ${await serviceToken()}`);
    return next(req);
  };
}
