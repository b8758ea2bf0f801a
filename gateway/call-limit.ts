import type { Interceptor } from "@connectrpc/connect";
import { peerKey } from "@parley/chassis/rpc/context-keys.ts";
import { fail } from "@parley/chassis/rpc/errors.ts";
import { watchEnd } from "@parley/chassis/rpc/response.ts";
import { RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";

const retry = { desc: RetryInfoSchema, value: { retryDelay: { seconds: 1n } } };

/**
 * Refuses calls beyond a number in progress, in all and of one address, so that a client with many
 * slow calls does not keep the others waiting: all share one connection to each service.
 */
export function callLimit(limits: { readonly atMost: number; readonly perClient: number }): Interceptor {
  const counts = new Map<string, number>();
  let total = 0;
  return (next) => (req) => {
    const client = req.contextValues.get(peerKey).replace(/:\d+$/, "");
    const own = counts.get(client) ?? 0;
    if (total >= limits.atMost || own >= limits.perClient) {
      const whose = own >= limits.perClient ? `${client} has` : "all clients together have";
      throw fail(ErrorReason.TOO_MANY_CALLS, `${whose} as many calls in progress as are let in; end some, or try again`, {}, retry);
    }
    total++;
    counts.set(client, own + 1);
    return watchEnd(
      req.signal,
      () => next(req),
      () => {
        total--;
        const left = (counts.get(client) ?? 1) - 1;
        if (left === 0) counts.delete(client);
        else counts.set(client, left);
      },
    );
  };
}
