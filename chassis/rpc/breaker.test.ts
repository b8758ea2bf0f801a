import { expect, test } from "vitest";
import { type BreakerState, createBreaker, type Outcome } from "./breaker.ts";

/** A breaker with a clock of the test's own, and the states that it came to. */
function openBreaker() {
  const states: BreakerState[] = [];
  let nowMs = 1_000_000;
  const breaker = createBreaker(
    (state) => states.push(state),
    () => nowMs,
  );
  return {
    states,
    pass: (ms: number) => {
      nowMs += ms;
    },
    /** Makes calls one after the other; returns how many were let through. */
    call(count: number, outcome: Outcome): number {
      let admitted = 0;
      for (let index = 0; index < count; index++) {
        const tell = breaker.admit();
        if (typeof tell === "number") continue;
        tell(outcome);
        admitted++;
      }
      return admitted;
    },
    admit: () => breaker.admit(),
  };
}

test("a breaker lets everything through while less than 70 % fail, or while there are few calls", () => {
  const { call, states } = openBreaker();
  expect(call(19, "failure")).toBe(19);
  expect(call(20, "success")).toBe(20);
  expect(call(20, "failure")).toBe(20);
  expect(states).toEqual([]);
});

test("calls that were given up say nothing", () => {
  const { call, states } = openBreaker();
  call(100, "nothing");
  call(19, "failure");
  expect(states).toEqual([]);
});

test("a breaker opens at once when most calls of the last 3 s failed, and says how long to wait", () => {
  const { call, pass, states, admit } = openBreaker();
  call(1_000, "success");
  pass(3_100);
  expect(call(50, "failure")).toBe(20);
  expect(states).toEqual(["open"]);
  const waitMs = admit();
  expect(waitMs).toBeGreaterThanOrEqual(800);
  expect(waitMs).toBeLessThanOrEqual(1_200);
});

test("failures that are older than 3 s do not count, however few calls came since", () => {
  const { call, pass, states } = openBreaker();
  for (let minute = 0; minute < 20; minute++) {
    call(10, "failure");
    pass(3_100);
  }
  expect(states).toEqual([]);
});

test("an open breaker lets one call at a time through after a second, and three that go well close it", () => {
  const { call, pass, states, admit } = openBreaker();
  call(20, "failure");
  pass(1_300);
  const probe = admit();
  expect(call(10, "success")).toBe(0); // while it is on its way
  if (typeof probe !== "number") probe("success");
  expect(call(2, "success")).toBe(2);
  expect(call(100, "success")).toBe(100);
  expect(states).toEqual(["open", "half-open", "closed"]);
});

test("three probes that fail open the breaker for another second; one that is given up is followed by another", () => {
  const { call, pass, states } = openBreaker();
  call(20, "failure");
  pass(1_300);
  expect(call(1, "nothing")).toBe(1);
  expect(call(2, "success")).toBe(2);
  expect(call(5, "failure")).toBe(3);
  expect(call(5, "success")).toBe(0);
  pass(1_300);
  expect(call(5, "success")).toBe(5);
  expect(states).toEqual(["open", "half-open", "open", "half-open", "closed"]);
});

test("a breaker whose every other probe fails closes, so that a bad replica can be found among good ones", () => {
  const { call, pass, states } = openBreaker();
  call(20, "failure");
  pass(1_300);
  for (let probe = 0; probe < 3; probe++) {
    call(1, "success");
    if (probe < 2) call(1, "failure");
  }
  expect(states).toEqual(["open", "half-open", "closed"]);
});

test("what was let through before the breaker opened changes nothing any more", () => {
  const { call, pass, states, admit } = openBreaker();
  const early = Array.from({ length: 30 }, admit);
  call(20, "failure");
  pass(1_300);
  const tellAll = (some: typeof early) => {
    for (const tell of some) if (typeof tell !== "number") tell("failure");
  };
  tellAll(early.slice(0, 5));
  expect(call(3, "success")).toBe(3);
  tellAll(early.slice(5)); // neither when it is closed again
  expect(states).toEqual(["open", "half-open", "closed"]);
});

test("a probe whose end comes late, when its round is decided, changes nothing any more", () => {
  const { call, pass, states, admit } = openBreaker();
  const tellAll = (some: ReturnType<typeof admit>[], outcome: Outcome) => {
    for (const tell of some) if (typeof tell !== "number") tell(outcome);
  };
  call(20, "failure");
  const late = [1_300, 1_100, 1_100].map((ms) => {
    pass(ms);
    return admit();
  });
  pass(1_100);
  expect(call(3, "success")).toBe(3);
  tellAll(late, "failure");
  expect(call(100, "success")).toBe(100);
  expect(states).toEqual(["open", "half-open", "closed"]);
  call(300, "failure");
  pass(1_300);
  expect(call(2, "success")).toBe(2);
  const slow = admit();
  pass(1_100);
  expect(call(5, "failure")).toBe(3);
  tellAll([slow], "success");
  expect(call(5, "success")).toBe(0);
  expect(states.slice(3)).toEqual(["open", "half-open", "open"]);
});
