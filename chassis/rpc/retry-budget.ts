/** Tokens: at first, and at most. */
const tokensOf = { first: 10, most: 20 };
/** What a call that succeeded at its first try puts in. */
const perSuccess = 0.25;
/**
 * What a further try takes out. A retry's is put back where it succeeded, for it was no burden but the answer;
 * a hedge's never, because the first try burdened the target too.
 */
const cost = { retry: 1, hedge: 2.5 } as const;

export type FurtherTry = keyof typeof cost;

/** What may be spent on further tries of calls to one target. */
export interface RetryBudget {
  /** Takes out what a further try costs; returns false where that is more than there is. */
  spend(on: FurtherTry): boolean;
  /** Says that a call has succeeded: at its first try, or by a retry. */
  earn(by: "first" | "retry"): void;
}

/**
 * Creates the budget of a target: for each call that succeeds, a quarter of a retry that comes to nothing, or a tenth
 * of a hedge. While everything fails nothing is put in, and so, twenty tries aside, nothing is tried again. Retries that
 * help cost nothing: of a target that fails 30 % of its calls, 0.43 more tries a call are needed to answer 99 %, 0.13 of
 * which come to nothing. (AWS's SDKs count alike: a retry's token comes back with its success.)
 */
export function createRetryBudget(): RetryBudget {
  let tokens = tokensOf.first;
  return {
    spend(on) {
      if (tokens < cost[on]) return false;
      tokens -= cost[on];
      return true;
    },
    earn(by) {
      tokens = Math.min(tokens + (by === "first" ? perSuccess : cost.retry), tokensOf.most);
    },
  };
}
