import type { CallOptions } from "@connectrpc/connect";
import { findCurrentCall } from "./current-call.ts";

/** Of the time that is left to the current call, what is kept to answer with what has come by then. */
const reserve = { share: 0.1, atMostMs: 100 };

/** A part of an answer, as it came, or why it did not. */
export type Part<T> = { readonly value: T; readonly error?: never } | { readonly value?: never; readonly error: unknown };

/**
 * Calls several services at once, and waits for all: it takes as long as the slowest. Each call
 * must use the options that it is given. They end it a little before the current call's deadline,
 * so that a neighbour that is slow costs its part alone, and there is still time to answer.
 *
 * It never throws: the caller says which parts its answer can do without.
 */
export async function fanOut<Values extends Record<string, unknown>>(
  calls: {
    readonly [Name in keyof Values]: (options: CallOptions) => Promise<Values[Name]>;
  },
): Promise<{ readonly [Name in keyof Values]: Part<Values[Name]> }> {
  const deadlineMs = findCurrentCall()?.deadlineMs;
  const leftMs = deadlineMs === undefined ? undefined : deadlineMs - performance.now();
  const options: CallOptions = {};
  if (leftMs !== undefined) options.timeoutMs = Math.max(Math.floor(leftMs - Math.min(leftMs * reserve.share, reserve.atMostMs)), 1);
  const names: (keyof Values)[] = Object.keys(calls);
  const parts = await Promise.all(
    names.map(async (name): Promise<[keyof Values, Part<unknown>]> => {
      try {
        return [name, { value: await calls[name](options) }];
      } catch (error) {
        return [name, { error }];
      }
    }),
  );
  return Object.fromEntries(parts) as { [Name in keyof Values]: Part<Values[Name]> };
}
