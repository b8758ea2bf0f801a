import type { Database } from "@parley/chassis/data/database.ts";
import { type Lease, startWork, type Worker } from "@parley/chassis/data/work.ts";
import { OrderState, type RejectReason } from "@parley/gen/parley/orders/v1/orders_pb.js";
import type { Logger } from "pino";
import { type Compensation, checkout, first, nextAfter, type Perform, type Result, type Step } from "./checkout.ts";
import { type Decision, findNext, isOpen, isUndoing } from "./order.ts";
import type { OrderWatch } from "./order-watch.ts";
import { createStore, type HeldOrder, type Tables } from "./store.ts";
import type { Transitions } from "./transition.ts";

/** Orders that are claimed and worked on at once, beside those that were placed here. */
const concurrency = 32;
/** An outcome that is not known is asked for again, at first soon. */
const retryMs = { first: 250, atMost: 5_000 };

/** How the work on an order ended; `reason`: why it is rejected. */
interface Decided {
  readonly decision: Decision;
  readonly reason?: RejectReason;
}

/** Called before and after each step and compensation, for tests that stop the process there. */
export type Hook = (at: {
  readonly orderId: string;
  readonly attempt: number;
  readonly step: Step | Compensation;
  readonly when: "before" | "after";
}) => Promise<void>;

export interface SagaOptions {
  readonly database: Database<Tables>;
  readonly transitions: Transitions;
  readonly watch: OrderWatch;
  readonly perform: Perform;
  /** How long after it was placed an order may be pending. */
  readonly timeoutMs: number;
  readonly log: Logger;
  readonly leaseMs?: number;
  readonly hook?: Hook;
}

/**
 * Starts the worker that brings orders to their end. Each attempt begins at the top of its
 * direction: all steps are safe to repeat. It writes down decisions alone, before it acts on them,
 * each in the state and the attempt in which it was taken; where that writes nothing, the order's
 * row says what to do.
 */
export function startSaga(options: SagaOptions): Worker {
  const { database, transitions, watch, perform, timeoutMs, log, leaseMs, hook } = options;

  async function work(lease: Lease): Promise<"done" | undefined> {
    for (;;) {
      const order = await createStore(database.db).findHeld(lease, timeoutMs);
      if (order === undefined || !isOpen(order.state)) return undefined;
      const changed = await decide(order, lease, await runSteps(order, lease));
      if (changed !== undefined && !isOpen(changed.state)) return "done";
    }
  }

  /** Goes through the steps of the order's direction; returns what is to be decided. Throws where an outcome is not known. */
  async function runSteps(order: HeldOrder, lease: Lease): Promise<Decided> {
    let at: Step | Compensation | Decision = isUndoing(order.state) ? first.undo : first.forward;
    let result: Result = { outcome: "done" };
    while (isStep(at)) {
      const point = { orderId: order.orderId, attempt: lease.attempt, step: at };
      await hook?.({ ...point, when: "before" });
      result = await runStep(at, order, lease);
      await hook?.({ ...point, when: "after" });
      at = nextAfter(at, result.outcome);
    }
    return { decision: at, ...(result.reason !== undefined && { reason: result.reason }) };
  }

  async function runStep(at: Step | Compensation, order: HeldOrder, { signal }: Lease): Promise<Result> {
    try {
      return await perform(at, order, { signal });
    } catch (error) {
      const reason = checkout.find(({ step }) => step === at)?.unavailable;
      if (reason === undefined || !order.isOverdue || signal.aborted) throw error;
      log.warn({ err: error, order_id: order.orderId, step: at }, "a step came to nothing in time: the order is rejected");
      return { outcome: "refused", reason };
    }
  }

  async function decide(order: HeldOrder, { attempt }: Lease, { decision, reason }: Decided) {
    const to = findNext(decision, order.state);
    if (to === undefined) throw new Error(`an order that is ${OrderState[order.state]} cannot ${decision}`);
    const change = { from: order.state, to, attempt, ...(reason !== undefined && { reason }) };
    const changed = await database.transaction((tx) => transitions.move(tx, order.orderId, change));
    if (changed !== undefined) watch.changed(changed);
    return changed;
  }

  return startWork({
    database,
    table: "customer_order",
    key: "order_id",
    concurrency,
    retryMs,
    log,
    handle: work,
    ...(leaseMs !== undefined && { leaseMs }),
  });
}

function isStep(at: Step | Compensation | Decision): at is Step | Compensation {
  return checkout.some(({ step, compensation }) => step === at || compensation === at);
}
