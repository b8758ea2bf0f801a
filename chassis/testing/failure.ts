import { ConnectError } from "@connectrpc/connect";

/** Returns the error that a call ends with. Throws where it succeeds, or fails with anything else. */
export async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  const outcome = await call.then(
    () => "success",
    (error: unknown) => error,
  );
  if (outcome instanceof ConnectError) return outcome;
  throw new Error(`expected a ConnectError, not ${outcome}`);
}
