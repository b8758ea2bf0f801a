import { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";

/** How late the event loop may be all the time, in milliseconds. One that is busy with 32 calls at once is 10 to 40 late. */
const lateMs = 100;
/** Calls in progress above which some are refused: at least, and at most, which is as if there were no limit. */
const limits = { least: 10, most: 10_000 };
/** A loop that is late cuts the limit down to what would not be, at most to half of it at once; one that is not raises it, slowly where it is used. */
const factors = { cut: 0.5, raiseUsed: 1.1, raise: 2 };
const usedShare = 0.5;
/** The share of the limit above which calls are refused, by how much depends on them. */
const shares: Readonly<Record<Criticality, number>> = {
  [Criticality.UNSPECIFIED]: 0.8,
  [Criticality.CRITICAL]: 2,
  [Criticality.DEFAULT]: 0.8,
  [Criticality.SHEDDABLE]: 0.5,
};

/** A limit of calls in progress. */
export interface AdaptiveLimit {
  readonly current: number;
  /** Lets a call in, which must leave when it has ended; undefined: it is refused. */
  admit(criticality: Criticality): (() => void) | undefined;
  /** Adapts to how late the event loop was at least, in milliseconds, since the last time. */
  adapt(leastLateMs: number): void;
}

/**
 * Creates a limit that follows the delay of the event loop, down in proportion and up in steps; at first it lets all in.
 * What has its turn late is what a Node process has too much of, whatever the calls do. The time that calls take says so only
 * beside what they would take alone, which is another for each method, and long by design for those that wait for something.
 *
 * The least delay of half a second counts, not the longest: a burst comes to its end, a standing queue does not (Nichols and
 * Jacobson, Controlling Queue Delay, 2012). Queueing time as the sign of overload, and refusing by priority: Zhou et al., Overload
 * Control for Scaling WeChat Microservices, 2018.
 */
export function createAdaptiveLimit(): AdaptiveLimit {
  let limit = limits.most;
  let inProgress = 0;
  let peak = 0;
  const leave = (): void => {
    inProgress--;
  };
  return {
    get current() {
      return limit;
    },
    admit(criticality) {
      if (inProgress >= limit * shares[criticality]) return undefined;
      inProgress++;
      peak = Math.max(peak, inProgress);
      return leave;
    },
    adapt(leastLateMs) {
      if (leastLateMs > lateMs) limit = Math.max(Math.min(limit, peak) * Math.max(lateMs / leastLateMs, factors.cut), limits.least);
      else limit = Math.min(limit * (peak > limit * usedShare ? factors.raiseUsed : factors.raise), limits.most);
      peak = inProgress;
    },
  };
}
