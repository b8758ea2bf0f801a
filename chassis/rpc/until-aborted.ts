import { errorOfAbort } from "./errors.ts";

/**
 * Resolves as `work` does, or rejects when the signal fires, whichever comes first.
 *
 * Unlike Promise.race with a promise for the signal, it keeps nothing when `work` is done: such a
 * promise would hold on to every result until the signal fires.
 */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(errorOfAbort(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
