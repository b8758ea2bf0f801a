import { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";

/**
 * How late the event loop may be in the mean of half a second, in milliseconds. Busy with 32 calls at once it is 10 to 40 late, while a
 * process starts up to 60; with less, an overloaded suite answers much less than it could, and 200 cuts off nothing.
 */
const lateMs = 100;
/**
 * Calls in progress above which some are refused: at least, what is done in about a second, half of most deadlines, because refusals
 * cost something too, and whoever is refused comes again; and at most, which is as good as none.
 */
const limits = { least: 192, most: 10_000 };
/** A loop that is late cuts the limit down to what would not be, at most to half of it at once; one that is not raises it, slowly where it is used. */
const factors = { cut: 0.5, raiseUsed: 1.1, raise: 2 };
const usedShare = 0.5;
/** The share of the limit above which calls are refused that are not critical. Critical ones have a limit of their own, which is as high. */
const shares = { [Criticality.DEFAULT]: 0.9, [Criticality.SHEDDABLE]: 0.7 } as const;

/** A limit of calls in progress. */
export interface AdaptiveLimit {
  readonly current: number;
  /** Whether a call would be refused now. */
  isReached(criticality: Criticality): boolean;
  /** Lets a call in, which must leave when it has ended; undefined: it is refused. */
  admit(criticality: Criticality): (() => void) | undefined;
  /** Adapts to how late the event loop was in the mean, in milliseconds, since the last time. */
  adapt(meanLateMs: number): void;
}

/**
 * Creates a limit that follows the delay of the event loop, down in proportion, where it is late for longer than a second, and up in
 * steps; at first it is as high as it gets.
 * What has its turn late is what a Node process has too much of, whatever the calls do. The time that calls take says so only
 * beside what they would take alone, which is another for each method, and long by design for those that wait for something.
 *
 * (Queueing time as the sign of overload, and refusing by priority: Zhou et al., Overload Control for Scaling WeChat
 * Microservices, 2018.)
 */
export function createAdaptiveLimit(): AdaptiveLimit {
  let limit = limits.most;
  let inProgress = 0;
  let criticalInProgress = 0;
  let peak = 0;
  let wasLate = false;
  const leave = (): void => {
    inProgress--;
  };
  const leaveCritical = (): void => {
    inProgress--;
    criticalInProgress--;
  };
  const isReached = (criticality: Criticality): boolean =>
    criticality === Criticality.CRITICAL
      ? criticalInProgress >= limit
      : inProgress >= limit * shares[criticality === Criticality.SHEDDABLE ? criticality : Criticality.DEFAULT];
  return {
    get current() {
      return limit;
    },
    isReached,
    admit(criticality) {
      const isCritical = criticality === Criticality.CRITICAL;
      if (isReached(criticality)) return undefined;
      inProgress++;
      peak = Math.max(peak, inProgress);
      if (!isCritical) return leave;
      criticalInProgress++;
      return leaveCritical;
    },
    adapt(meanLateMs) {
      const isLate = meanLateMs > lateMs;
      if (isLate && wasLate) limit = Math.max(Math.min(limit, peak) * Math.max(lateMs / meanLateMs, factors.cut), limits.least);
      else if (!isLate) limit = Math.min(limit * (peak > limit * usedShare ? factors.raiseUsed : factors.raise), limits.most);
      peak = inProgress;
      wasLate = isLate;
    },
  };
}
