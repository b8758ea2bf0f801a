import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { fail } from "../errors.ts";
import { aroundSteps } from "./steps.ts";

/** Ends the call when its signal fires, also where the handler does not listen: deadline over, cancelled, or server stopping. */
export const deadline: Interceptor = (next) => (req) => {
  const fired = new Promise<never>((_resolve, reject) => {
    const onAbort = (): void => reject(reasonOf(req.signal));
    if (req.signal.aborted) onAbort();
    else req.signal.addEventListener("abort", onAbort, { once: true });
  });
  fired.catch(() => {}); // it fires at the end of every call
  return aroundSteps(
    () => next(req),
    (step) => (req.signal.aborted ? fired : Promise.race([step(), fired])),
  );
};

function reasonOf(signal: AbortSignal): ConnectError {
  const reason: unknown = signal.reason;
  if (!(reason instanceof ConnectError)) return fail(ErrorReason.CANCELLED, "the call was cancelled");
  return reason.code === Code.DeadlineExceeded ? fail(ErrorReason.DEADLINE_EXCEEDED, "the call did not end within its deadline") : reason;
}
