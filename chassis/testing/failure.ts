import { type Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";

/** Returns the error that a call ends with. Throws where it succeeds, or fails with anything else. */
export async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  const outcome = await call.then(
    () => "success",
    (error: unknown) => error,
  );
  if (outcome instanceof ConnectError) return outcome;
  throw new Error(`expected a ConnectError, not ${outcome}`);
}

/** Returns the code and the reason of the error that a call ends with. */
export async function reasonOf(call: Promise<unknown>): Promise<[code: Code, reason: string | undefined]> {
  const error = await failureOf(call);
  return [error.code, error.findDetails(ErrorInfoSchema)[0]?.reason];
}
