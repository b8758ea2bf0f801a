import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { deadlineExceeded, fail } from "../errors.ts";
import { aroundSteps } from "./steps.ts";

const stopped = Symbol("stopped");

/** Ends the call when its signal fires, also where the handler does not listen: deadline over, cancelled, or server stopping. */
export const deadline: Interceptor = (next) => (req) => {
  const { signal } = req;
  const fired = new Promise<typeof stopped>((resolve) => signal.addEventListener("abort", () => resolve(stopped), { once: true }));
  return aroundSteps(
    () => (signal.aborted ? Promise.reject(reasonOf(signal)) : next(req)),
    async (step) => {
      const result = await Promise.race([step(), fired]);
      if (result === stopped) throw reasonOf(signal);
      return result;
    },
  );
};

function reasonOf({ reason }: AbortSignal): ConnectError {
  if (!(reason instanceof ConnectError)) return fail(ErrorReason.CANCELLED, "the call was cancelled");
  return reason.code === Code.DeadlineExceeded ? deadlineExceeded() : reason;
}
