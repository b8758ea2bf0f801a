import type { Interceptor } from "@connectrpc/connect";
import { errorOfAbort } from "../errors.ts";
import { wrapResponse } from "../response.ts";
import { untilAborted } from "../until-aborted.ts";

/** Ends the call when its signal fires, also where the handler does not listen: deadline over, cancelled, or server stopping. */
export const deadline: Interceptor = (next) => (req) =>
  wrapResponse(
    () => (req.signal.aborted ? Promise.reject(errorOfAbort(req.signal)) : next(req)),
    (pull) => untilAborted(pull(), req.signal),
  );
