import type { Interceptor } from "@connectrpc/connect";
import { findCurrentCall } from "../current-call.ts";
import { addIds } from "../ids.ts";

/** Notes what a unary call is about, by the ids in its request and its answer, for the lines of the log that belong to it. */
export const about: Interceptor = (next) => async (req) => {
  const ids = findCurrentCall()?.about;
  if (ids !== undefined && !req.stream) addIds(ids, req.method.input, req.message);
  const response = await next(req);
  if (ids !== undefined && !response.stream) addIds(ids, response.method.output, response.message);
  return response;
};
