import type { Interceptor } from "@connectrpc/connect";
import { findCurrentCall } from "../current-call.ts";

/** On the client: sends the current call's request and trace ids, and its user's token, unless the caller set the header. */
export const propagation: Interceptor = (next) => (req) => {
  for (const [name, value] of findCurrentCall()?.passedOn ?? []) {
    if (!req.header.has(name)) req.header.set(name, value);
  }
  return next(req);
};
