import { PaymentState as State } from "@parley/gen/parley/payments/v1/payments_pb.js";

/** What the processor is asked for. */
export type Operation = "authorize" | "capture" | "void";

/** How a charge is, as the processor says. */
export type Outcome = "authorized" | "declined" | "captured" | "voided";

/** A payment as far as it is decided. */
export interface Progress {
  readonly state: State;
  /** What the processor is being asked for, or was, with an answer that is not known. */
  readonly asked: Operation | undefined;
}

/** What a call comes to: something to ask the processor for, once `save` is committed; or its answer. */
export type Step = { readonly ask: Operation; readonly save: Progress } | { readonly answer: Answer; readonly save?: Progress };
export type Answer = "done" | "declined" | "voided" | "captured" | "not authorized" | "not found";

/** A payment whose id was never seen. */
export const unseen: Progress = { state: State.UNSPECIFIED, asked: undefined };

/**
 * Decides what a call does, first, and again after each answer of the processor. What was asked and
 * not answered is asked again, with the same key: the processor does it once.
 */
export function decide(operation: Operation, current: Progress): Step {
  switch (operation) {
    case "authorize":
      return decideAuthorize(current);
    case "capture":
      return decideCapture(current);
    case "void":
      return decideVoid(current);
  }
}

/** Returns a payment as it is when the processor has said how its charge is. What is known already stays. */
export function applyOutcome(current: Progress, outcome: Outcome): Progress {
  const state = settled[outcome][current.state];
  return state === undefined ? current : { state, asked: undefined };
}

/** Between a capture and a void that are both under way, the processor decides. */
const settled: Readonly<Record<Outcome, Readonly<Partial<Record<State, State>>>>> = {
  authorized: { [State.PENDING]: State.AUTHORIZED },
  declined: { [State.PENDING]: State.DECLINED },
  captured: { [State.AUTHORIZED]: State.CAPTURED },
  voided: { [State.AUTHORIZED]: State.VOIDED },
};

function decideAuthorize(current: Progress): Step {
  switch (current.state) {
    case State.UNSPECIFIED:
    case State.PENDING:
      return { ask: "authorize", save: { state: State.PENDING, asked: "authorize" } };
    case State.DECLINED:
      return { answer: "declined" };
    case State.VOIDED:
      return { answer: "voided" };
    case State.AUTHORIZED:
      return { answer: current.asked === "void" ? "voided" : "done" };
    default:
      return { answer: "done" };
  }
}

function decideCapture(current: Progress): Step {
  switch (current.state) {
    case State.UNSPECIFIED:
      return { answer: "not found" };
    case State.PENDING:
      return { answer: "not authorized" };
    case State.DECLINED:
      return { answer: "declined" };
    case State.VOIDED:
      return { answer: "voided" };
    case State.AUTHORIZED:
      if (current.asked === "void") return { answer: "voided" };
      return { ask: "capture", save: { state: State.AUTHORIZED, asked: "capture" } };
    default:
      return { answer: "done" };
  }
}

function decideVoid(current: Progress): Step {
  switch (current.state) {
    case State.UNSPECIFIED: // a tombstone: an authorize that comes later is refused
      return { answer: "done", save: { state: State.VOIDED, asked: undefined } };
    case State.PENDING: // first it must be known what there is to void
      return { ask: "authorize", save: current };
    case State.AUTHORIZED:
      return { ask: "void", save: { state: State.AUTHORIZED, asked: current.asked ?? "void" } };
    case State.CAPTURED:
    case State.PARTIALLY_REFUNDED:
      return { answer: "captured" };
    default:
      return { answer: "done" };
  }
}

/** Money that was given back, or is about to be. */
export interface Refund {
  readonly refundId: string;
  /** What was asked for; undefined: what was left. */
  readonly requested: bigint | undefined;
  readonly amount: bigint;
  /** Whether the processor has said so. */
  readonly isDone: boolean;
}

/** What a refund comes to: one to ask the processor for, once it is saved; or its answer. */
type RefundStep = { readonly ask: Refund } | { readonly answer: RefundAnswer };
export type RefundAnswer = "done" | "exceeds" | "mismatch" | "not found";

/** Decides what a refund does, of a payment of that amount; `requested` undefined: of what is left. */
export function decideRefund(
  payment: { readonly state: State; readonly amount: bigint; readonly refunds: readonly Refund[] },
  request: { readonly refundId: string; readonly requested: bigint | undefined; readonly isOtherCurrency?: boolean },
): RefundStep {
  const { refundId, requested, isOtherCurrency = false } = request;
  const before = payment.refunds.find((refund) => refund.refundId === refundId);
  if (before !== undefined) {
    if (isOtherCurrency || before.requested !== requested) return { answer: "mismatch" };
    return before.isDone ? { answer: "done" } : { ask: before };
  }
  if (isOtherCurrency) return { answer: "exceeds" };
  // What is not known to be taken may be so yet.
  if (payment.state === State.PENDING || payment.state === State.AUTHORIZED) return { answer: "exceeds" };
  const isCaptured = payment.state === State.CAPTURED || payment.state === State.PARTIALLY_REFUNDED;
  const left = isCaptured ? payment.refunds.reduce((rest, { amount }) => rest - amount, payment.amount) : 0n;
  const amount = requested ?? left;
  if (amount > left) return { answer: "exceeds" };
  return amount === 0n ? { answer: "done" } : { ask: { refundId, requested, amount, isDone: false } };
}

/** Returns the state of a payment of that amount, of which so much was given back. */
export function refundedState(amount: bigint, refunded: bigint): State {
  return refunded === amount ? State.REFUNDED : State.PARTIALLY_REFUNDED;
}
