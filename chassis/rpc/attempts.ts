import { setTimeout as delay, setImmediate as immediate } from "node:timers/promises";
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { Counter, Gauge } from "prom-client";
import { perRegistry, type Telemetry } from "../telemetry/telemetry.ts";
import { type Breaker, type BreakerState, createBreaker, type Outcome } from "./breaker.ts";
import { deadlineMsOf, hedgeAfterMsOf, isIdempotent, methodName } from "./contract.ts";
import { fail, retryAfter, wasRetried } from "./errors.ts";
import { failures, fairMs } from "./failures.ts";
import { createRetryBudget, type FurtherTry } from "./retry-budget.ts";
import { pushbackKey } from "./status.ts";

/** Tries of one call at most, the first and a hedge among them: gRPC's own limit (gRFC A6, maxAttempts). */
const maxTries = 5;
/** A call that has been under way for longer, in milliseconds, such as a stream that had nothing to say, is its caller's to make anew: its token may have ended. */
const retriedForMs = 10_000;
/** The longest wait before the second try, in milliseconds; before each further one it is twice as long. By chance, from nothing to all of it. */
const backoffMs = { first: 50, atMost: 1_000 };

/** Makes the calls to one target: behind a breaker for each method, and more than once where the contract permits. */
export interface Attempts {
  /**
   * Runs `attempt`, which must end when the signal that it is given fires; again where it was `UNAVAILABLE` and the method may
   * be repeated; and a second time beside it where the method is to be hedged. Rejects with `CIRCUIT_OPEN` where the breaker is open.
   */
  run<T>(method: DescMethod, limits: CallLimits, attempt: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

/** What ends a call. */
export interface CallLimits {
  readonly signal: AbortSignal;
  /** On the clock of performance.now(); undefined: it has no deadline. */
  readonly deadlineMs: number | undefined;
}

/** Creates the attempts at the target that goes by a service's name. Without `retries`, each call is made once. */
export function createAttempts(options: { readonly peerName: string; readonly retries: boolean; readonly telemetry: Telemetry }): Attempts {
  const { peerName, telemetry } = options;
  const metrics = attemptMetrics(telemetry.registry);
  const budget = createRetryBudget();
  const known = new WeakMap<DescMethod, { labels: Record<string, string>; breaker: Breaker }>();

  function forMethod(method: DescMethod) {
    const before = known.get(method);
    if (before !== undefined) return before;
    const labels = { service_name: telemetry.serviceName, service_peer_name: peerName, rpc_method: methodName(method) };
    metrics.breakerState.set(labels, states.closed);
    metrics.rejected.inc(labels, 0); // of a series that begins with a one, Prometheus sees no rise
    const breaker = createBreaker((state) => {
      metrics.breakerState.set(labels, states[state]);
      telemetry.log.warn({ "service.peer.name": peerName, "rpc.method": methodName(method) }, `the breaker is ${state}`);
    });
    const entry = { labels, breaker };
    known.set(method, entry);
    return entry;
  }

  /** Whether a further try may be made; it is paid for then. */
  function mayTry(on: FurtherTry, labels: Record<string, string>): boolean {
    const isPaid = budget.spend(on);
    (isPaid ? metrics.furtherTries : metrics.withheld).inc({ ...labels, kind: on });
    return isPaid;
  }

  async function guarded<T>(method: DescMethod, limits: CallLimits, attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { labels, breaker } = forMethod(method);
    const admitted = breaker.admit();
    if (typeof admitted === "number") {
      metrics.rejected.inc(labels);
      await immediate(); // or a caller that calls again at once would let nothing else run
      throw circuitOpen(method, admitted);
    }
    const leftMs = leftMsOf(limits);
    try {
      const result = await attempt(limits.signal);
      admitted("success");
      return result;
    } catch (error) {
      // Who says that another one is unavailable is well: whoever calls that one cuts it off.
      const isOthers = error instanceof ConnectError && wasRetried(error);
      admitted(isOthers ? "success" : outcomeOf(error, leftMs >= Math.min(deadlineMsOf(method) ?? fairMs, fairMs) - 1));
      throw error;
    }
  }

  /** Makes a call that, where it takes so long, is made once more beside; the first answer counts. */
  async function hedged<T>(
    method: DescMethod,
    hedgeAfterMs: number,
    limits: CallLimits,
    attempt: (signal: AbortSignal) => Promise<T>,
    onHedge: () => void,
  ): Promise<T> {
    const over = new AbortController();
    const signal = AbortSignal.any([limits.signal, over.signal]);
    const start = (): Promise<T> => guarded(method, { ...limits, signal }, attempt);
    const first = start();
    try {
      const isLate = await Promise.race([first.then(() => false), delay(hedgeAfterMs, true, { signal }).catch(() => false)]);
      if (!isLate || !mayTry("hedge", forMethod(method).labels)) return await first;
      onHedge();
      // A refusal is an answer too; where neither answers, it has failed as the first did.
      const { answer, refusal } = await Promise.any([first, start()].map(toAnswer)).catch(async () => ({
        answer: await first,
        refusal: undefined,
      }));
      if (refusal !== undefined) throw refusal;
      return answer as T;
    } finally {
      over.abort();
    }
  }

  return {
    async run(method, limits, attempt) {
      const hedgeAfterMs = options.retries ? hedgeAfterMsOf(method) : undefined;
      const startedMs = performance.now();
      let tried = 0;
      const once = (): ReturnType<typeof attempt> => {
        tried++;
        if (hedgeAfterMs === undefined || tried > 1) return guarded(method, limits, attempt);
        return hedged(method, hedgeAfterMs, limits, attempt, () => void tried++);
      };
      if (!options.retries || !isIdempotent(method)) return once();
      for (let isFirst = true; ; isFirst = false) {
        try {
          const result = await once();
          budget.earn(isFirst ? "first" : "retry");
          return result;
        } catch (error) {
          if (isAnswer(error)) budget.earn(isFirst ? "first" : "retry");
          const waitMs = waitMsAfter(error, tried);
          if (waitMs === undefined || limits.signal.aborted || waitMs >= leftMsOf(limits)) throw error;
          if (performance.now() - startedMs > retriedForMs || !mayTry("retry", forMethod(method).labels)) throw error;
          await delay(waitMs, undefined, { signal: limits.signal }).catch(() => {
            throw error;
          });
        }
      }
    },
  };
}

/** Lets an attempt that was answered, with a refusal too, resolve, and any other reject. */
async function toAnswer<T>(attempt: Promise<T>): Promise<{ answer?: T; refusal?: unknown }> {
  try {
    return { answer: await attempt };
  } catch (error) {
    if (isAnswer(error)) return { refusal: error };
    throw error;
  }
}

/** Whether an error is the target's answer, and no sign that it is not well. */
function isAnswer(error: unknown): boolean {
  return outcomeOf(error, true) === "success";
}

/** Returns how long to wait before the next try, in milliseconds; undefined: there is none. */
function waitMsAfter(error: unknown, tried: number): number | undefined {
  if (!(error instanceof ConnectError) || error.code !== Code.Unavailable || tried >= maxTries || wasRetried(error)) return undefined;
  const pushback = error.metadata.get(pushbackKey);
  if (pushback === null) return Math.random() * Math.min(backoffMs.first * 2 ** (tried - 1), backoffMs.atMost);
  return /^\d+$/.test(pushback) ? Number(pushback) : undefined; // what is no such number says no (gRFC A6, Pushback)
}

function outcomeOf(error: unknown, wasFair: boolean): Outcome {
  if (!(error instanceof ConnectError) || error.code === Code.Canceled) return "nothing";
  if (error.code === Code.DeadlineExceeded && !wasFair) return "nothing";
  return failures.has(error.code) ? "failure" : "success";
}

function circuitOpen(method: DescMethod, waitMs: number): ConnectError {
  const text = `${methodName(method)} has failed too often of late, and is not called for a moment; try again`;
  const error = fail(ErrorReason.CIRCUIT_OPEN, text, {}, retryAfter(waitMs));
  error.isWireError = true; // it is the neighbour's failure, not the handler's word
  return error;
}

function leftMsOf({ deadlineMs }: CallLimits): number {
  return deadlineMs === undefined ? Number.POSITIVE_INFINITY : deadlineMs - performance.now();
}

const states: Readonly<Record<BreakerState, number>> = { closed: 0, "half-open": 1, open: 2 };
const labelNames = ["service_name", "service_peer_name", "rpc_method"] as const;

const attemptMetrics = perRegistry((registers) => ({
  furtherTries: new Counter({
    name: "parley_rpc_client_retries_total",
    help: "Tries beyond the first of a call: retries, and hedges.",
    labelNames: [...labelNames, "kind"],
    registers,
  }),
  withheld: new Counter({
    name: "parley_rpc_client_retries_withheld_total",
    help: "Further tries that were not made, as the target's budget was spent.",
    labelNames: [...labelNames, "kind"],
    registers,
  }),
  breakerState: new Gauge({
    name: "parley_rpc_client_breaker_state",
    help: "0: closed, 1: half-open, 2: open.",
    labelNames,
    registers,
  }),
  rejected: new Counter({
    name: "parley_rpc_client_breaker_rejected_total",
    help: "Tries that were not made, as the breaker was open.",
    labelNames,
    registers,
  }),
}));
