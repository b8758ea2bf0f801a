import type { ConnectError } from "@connectrpc/connect";
import type { Authenticate } from "@parley/chassis/auth/authenticate.ts";
import { fail, retryAfter } from "@parley/chassis/rpc/errors.ts";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { clientKeyOf } from "./client-address.ts";
import type { NodeRequest } from "./node-request.ts";

/** Clients that are remembered at most. Beyond, the one that is remembered for longest is let in as if it were new. */
const maxClients = 100_000;

/** Returns why a request is not let in; undefined: it is. */
export type RateLimit = (request: NodeRequest, address: string) => Promise<ConnectError | undefined>;

/**
 * Creates a limit of calls a second for each caller: whoever a valid token names, and without one
 * the client's address, as for an `EventSource`, whose token is in its URL. Of several gateways each counts by itself.
 */
export function createRateLimit(options: {
  readonly perSecond: number;
  readonly burst: number;
  readonly authenticate: Authenticate;
}): RateLimit {
  const take = createBuckets(options);
  const callerOf = async ({ headers: { authorization } }: NodeRequest, address: string): Promise<string> => {
    if (authorization !== undefined) {
      // A token that is not valid counts for nothing: with others' names in it their calls would be refused.
      const identity = await options.authenticate(authorization).catch(() => undefined);
      if (identity !== undefined) return `subject ${identity.subject}`;
    }
    return `address ${clientKeyOf(address)}`;
  };
  return async (request, address) => {
    const waitMs = take(await callerOf(request, address), performance.now());
    if (waitMs === 0) return undefined;
    const text = `too many calls: ${options.perSecond} a second are let in, and ${options.burst} at once; try again in ${Math.ceil(waitMs)} ms`;
    return fail(ErrorReason.RATE_LIMITED, text, {}, retryAfter(waitMs));
  };
}

/**
 * Creates what counts calls by the generic cell rate algorithm (ITU-T I.371, virtual scheduling): of
 * each caller one number is kept, when the next call would come if they came evenly. Those whose
 * number has passed are as new, and forgotten. It returns how long a caller has to wait before the
 * next call is let in, in milliseconds; 0: this one is.
 */
export function createBuckets({ perSecond, burst }: { readonly perSecond: number; readonly burst: number }) {
  const everyMs = 1_000 / perSecond;
  const dueMs = new Map<string, number>();
  return (caller: string, nowMs: number): number => {
    const mineMs = Math.max(dueMs.get(caller) ?? 0, nowMs);
    const waitMs = mineMs - (burst - 1) * everyMs - nowMs;
    if (waitMs > 0) return waitMs;
    dueMs.delete(caller); // so that it is the newest
    dueMs.set(caller, mineMs + everyMs);
    let looked = 0;
    for (const [oldest, oldestMs] of dueMs) {
      if (looked++ === 2) break;
      if (oldestMs <= nowMs || dueMs.size > maxClients) dueMs.delete(oldest);
    }
    return 0;
  };
}
