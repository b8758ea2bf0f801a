import { randomUUID } from "node:crypto";
import type { ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import type { Logger } from "pino";
import { fail } from "./errors.ts";

/** For how long an error that comes again has the id of before, in milliseconds: for longer than the log counts it instead of logging it. */
const sameIdMs = 15_000;
/** Errors whose ids are remembered. */
const most = 1_000;

const ids = new Map<string, { readonly errorId: string; untilMs: number }>();

/**
 * Logs what went wrong, with its stack, under an id, and returns the error that shows the caller the id and nothing else.
 * What goes wrong again and again has one id, for it is logged once.
 */
export function internalError(error: unknown, log: Logger): ConnectError {
  const errorId = idOf((error instanceof Error ? error.stack : undefined) ?? String(error));
  log.error({ err: error, error_id: errorId }, "unexpected error");
  return fail(ErrorReason.INTERNAL, `internal error ${errorId}; tell it to whoever runs the service`, { errorId });
}

function idOf(key: string): string {
  const nowMs = performance.now();
  const before = ids.get(key);
  const entry = before !== undefined && before.untilMs > nowMs ? before : { errorId: randomUUID(), untilMs: 0 };
  entry.untilMs = nowMs + sameIdMs; // as long as it comes again, for the log may count it all the while
  ids.delete(key);
  ids.set(key, entry);
  const [oldest] = ids.keys();
  if (ids.size > most && oldest !== undefined) ids.delete(oldest);
  return entry.errorId;
}
