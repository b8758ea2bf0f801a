import type { Interceptor } from "@connectrpc/connect";
import { errorOfAbort } from "../errors.ts";
import { wrapResponse } from "../response.ts";

/** Ends the call when its signal fires, also where the handler does not listen: deadline over, cancelled, or server stopping. */
export const deadline: Interceptor = (next) => (req) =>
  wrapResponse(
    () => (req.signal.aborted ? Promise.reject(errorOfAbort(req.signal)) : next(req)),
    (pull) => untilAborted(pull(), req.signal),
  );

/** Not Promise.race with one promise for the signal: that would keep every message until the call ends. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(errorOfAbort(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
