/** How long what a call came to counts, in milliseconds, and in how many slots of time it is counted. */
const window = { lengthMs: 3_000, slots: 6 };
const slotMs = window.lengthMs / window.slots;
/** Fewer calls within the window say nothing. */
const leastCalls = 20;
/**
 * The share of them that must have failed. Above a half, so that one bad replica of two, which outlier
 * detection finds, does not cut off the other; and far above what retries make good.
 */
const failedShare = 0.7;
/** How long nothing is let through before probes are, in milliseconds. */
const openMs = 1_000;
/**
 * So many probes that go well close it, or that fail open it again, whichever are first. More than one fails: where one
 * replica of two is bad every other probe does, and closed, outlier detection finds it.
 */
const decidingProbes = 3;

export type BreakerState = "closed" | "half-open" | "open";

/** What became of a call that was let through; `nothing`: it was given up, and says nothing of whom it was for. */
export type Outcome = "success" | "failure" | "nothing";

/** A call that was let through to see, and the counts of the round that it is one of. */
interface Probe {
  readonly sinceMs: number;
  readonly round: object;
}

/** Cuts off calls that would fail (Nygard, Release It!, 2007). */
export interface Breaker {
  /** Lets a call through, which must tell its outcome once; or returns how long to wait, in milliseconds. */
  admit(): ((outcome: Outcome) => void) | number;
}

/**
 * Creates a breaker that is closed. It opens when, of at least 20 calls whose outcome became known in the last 3 s,
 * more than 70 % failed. After a second it lets one call at a time through, or one a second, to see: three that go well close it,
 * three that fail open it again. `now` is a clock that never goes back, in milliseconds.
 */
export function createBreaker(onChange: (state: BreakerState) => void, now: () => number = () => performance.now()): Breaker {
  let state: BreakerState = "closed";
  let counts = createCounts();
  let probeAtMs = 0;
  let probed = { success: 0, failure: 0 };
  let probe: Probe | undefined;

  function change(to: BreakerState): void {
    state = to;
    onChange(to);
  }

  function open(): void {
    // By chance, so that the callers of one service do not all come back to it at once.
    probeAtMs = now() + openMs * (0.8 + 0.4 * Math.random());
    change("open");
  }

  /** Counts a call that was let through while it was closed, unless it has opened since. */
  function tellOfCall(countsThen: typeof counts, outcome: Outcome): void {
    if (state !== "closed" || countsThen !== counts || outcome === "nothing") return;
    const { failed, all } = counts.add(now(), outcome === "failure");
    if (outcome === "failure" && all >= leastCalls && failed > all * failedShare) open();
  }

  /** Counts a probe, unless its round is decided. */
  function tellOfProbe(own: Probe, outcome: Outcome): void {
    if (probe === own) probe = undefined;
    if (state !== "half-open" || own.round !== probed || outcome === "nothing" || ++probed[outcome] < decidingProbes) return;
    if (outcome === "failure") return void open();
    counts = createCounts();
    change("closed");
  }

  return {
    admit() {
      if (state === "closed") {
        const countsThen = counts;
        return (outcome) => tellOfCall(countsThen, outcome);
      }
      const waitMs = probeAtMs - now();
      if (state === "open" && waitMs > 0) return waitMs;
      // One that takes longer, a stream perhaps that has nothing to say, holds up no other.
      if (probe !== undefined && now() - probe.sinceMs < openMs) return openMs;
      if (state === "open") {
        probed = { success: 0, failure: 0 };
        change("half-open");
      }
      const own = { sinceMs: now(), round: probed };
      probe = own;
      return (outcome) => tellOfProbe(own, outcome);
    },
  };
}

/** Counts of calls, by slots of time. */
function createCounts() {
  const slots = Array.from({ length: window.slots }, () => ({ number: -1, failed: 0, all: 0 }));
  return {
    /** Adds a call, and returns the counts of the window that ends now. */
    add(nowMs: number, isFailed: boolean): { failed: number; all: number } {
      const number = Math.floor(nowMs / slotMs);
      const sum = { failed: 0, all: 0 };
      for (const [index, slot] of slots.entries()) {
        if (index === number % window.slots) {
          if (slot.number !== number) Object.assign(slot, { number, failed: 0, all: 0 });
          slot.all++;
          if (isFailed) slot.failed++;
        }
        if (slot.number <= number - window.slots) continue;
        sum.failed += slot.failed;
        sum.all += slot.all;
      }
      return sum;
    },
  };
}
