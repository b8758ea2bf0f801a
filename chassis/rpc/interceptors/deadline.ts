import type { Interceptor } from "@connectrpc/connect";
import { deadlineKey } from "../context-keys.ts";
import { deadlineOver, errorOfAbort } from "../errors.ts";
import { wrapResponse } from "../response.ts";
import { untilAborted } from "../until-aborted.ts";

/**
 * Ends the call when its signal fires, also where the handler does not listen: deadline over, cancelled, or server stopping. One
 * whose deadline is over when its turn comes is not started: where the event loop is late, the signal is too.
 */
export const deadline: Interceptor = (next) => (req) =>
  wrapResponse(
    () => {
      if (req.signal.aborted) return Promise.reject(errorOfAbort(req.signal));
      return performance.now() > (req.contextValues.get(deadlineKey) ?? Number.POSITIVE_INFINITY)
        ? Promise.reject(deadlineOver())
        : next(req);
    },
    (pull) => untilAborted(pull(), req.signal),
  );
