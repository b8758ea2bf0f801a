import { ReservationState } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { OrderState } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { PaymentState } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { findChange } from "@parley/inventory/reservation.ts";
import { type Compensation, first, isKept, nextAfter, type Outcome, type Step } from "@parley/orders/checkout.ts";
import { type Decision, findNext, isOpen, isUndoing } from "@parley/orders/order.ts";
import {
  applyOutcome,
  decide,
  decideRefund,
  type Operation,
  type Progress,
  type Refund,
  type Outcome as Said,
} from "@parley/payments/payment.ts";

/** The decisions of the services, which a test may break to see why each is there. */
export interface Rules {
  readonly findChange: typeof findChange;
  readonly decide: typeof decide;
  readonly applyOutcome: typeof applyOutcome;
  readonly decideRefund: typeof decideRefund;
  readonly findNext: typeof findNext;
  /** What a worker does whose call came to nothing: it gives up, and another attempt begins at the top; or it decides. */
  readonly onUnknown: (at: Step | Compensation) => "give up" | OrderState;
}

/** Those of the services. */
export const rules: Rules = { findChange, decide, applyOutcome, decideRefund, findNext, onUnknown: () => "give up" };

/** How much may go wrong with the one order. */
export interface Bounds {
  /** How many workers may hold it, one after the other. */
  readonly attempts: number;
  /** How many calls may come to nothing for their caller, and go on or not. */
  readonly lost: number;
  readonly cancels: number;
}

/** What was found: how many states there are, the ends by the order's state, and the shortest way to a state that must not be. */
export interface Exploration {
  readonly states: number;
  readonly ends: Readonly<Record<string, number>>;
  readonly violation?: { readonly text: string; readonly way: readonly string[] };
}

type Processor = "none" | "authorized" | "declined" | "captured" | "voided" | "refunded";

/** A call under way: where its service has come to, between two commits of its own. */
interface Call {
  readonly at: Step | Compensation;
  readonly attempt: number;
  /** What the processor is asked for, or has said; undefined: the call has not begun. */
  readonly asked?: Operation | "refund";
  readonly said?: Said | "refunded";
}

/** A worker of the order: at a step, waiting for its answer, or having it. */
interface Worker {
  readonly attempt: number;
  readonly at: "start" | Step | Compensation | Decision;
  readonly wait?: true;
}

interface State {
  readonly order: OrderState;
  readonly attempt: number;
  readonly reservation: ReservationState;
  readonly payment: Progress;
  /** Whether the refund of what is left was asked for, or is done. */
  readonly refund: "none" | "asked" | "done";
  readonly processor: Processor;
  readonly workers: readonly Worker[];
  readonly calls: readonly Call[];
  readonly left: { readonly lost: number; readonly cancels: number; readonly settles: number };
}

/** How many workers are alive at once, the frozen ones among them. */
const mostWorkers = 3;

/**
 * Explores every interleaving of the checkout of one order within the bounds, by the decision functions
 * that the services run: workers whose lease runs out and who go on late, calls that are lost, late
 * or cut off between two commits of the service called, a customer who cancels, a reservation that
 * expires, staff that ships, and payments that settles by itself. Of refunds it knows the order's own
 * alone, of all that is left.
 */
export function explore(bounds: Bounds, broken: Partial<Rules> = {}): Exploration {
  const by: Rules = { ...rules, ...broken };
  const start: State = {
    order: OrderState.PENDING,
    attempt: 1,
    reservation: ReservationState.UNSPECIFIED,
    payment: { state: PaymentState.UNSPECIFIED, asked: undefined },
    refund: "none",
    processor: "none",
    workers: [{ attempt: 1, at: "start" }],
    calls: [],
    left: { lost: bounds.lost, cancels: bounds.cancels, settles: 1 },
  };
  const from = new Map<string, { before: string | undefined; label: string }>([[keyOf(start), { before: undefined, label: "" }]]);
  const queue: State[] = [start];
  const ends: Record<string, number> = {};
  const wayTo = (key: string): string[] => {
    const way: string[] = [];
    for (let at = from.get(key); at?.before !== undefined; at = from.get(at.before)) way.unshift(at.label);
    return way;
  };
  // Of an array that grows, for…of visits what is added too.
  for (const state of queue) {
    const key = keyOf(state);
    const text = violationOf(state, bounds);
    if (text !== undefined) return { states: from.size, ends, violation: { text, way: wayTo(key) } };
    let isEnd = true;
    for (const [label, next] of stepsOf(state, bounds, by)) {
      isEnd = false;
      const nextKey = keyOf(next);
      if (from.has(nextKey)) continue;
      from.set(nextKey, { before: key, label });
      queue.push(next);
    }
    if (!isEnd) continue;
    if (isOpen(state.order) && state.attempt < bounds.attempts)
      return { states: from.size, ends, violation: { text: "nobody works on an order that is open", way: wayTo(key) } };
    const name = isOpen(state.order) ? "OUT_OF_ATTEMPTS" : (OrderState[state.order] ?? "");
    ends[name] = (ends[name] ?? 0) + 1;
  }
  return { states: from.size, ends };
}

function keyOf({ order, attempt, reservation, payment, refund, processor, workers, calls, left }: State): string {
  const some = (all: readonly object[]): string =>
    all
      .map((one) => Object.values(one).join())
      .sort()
      .join(";");
  return [
    ...[order, attempt, reservation, payment.state, payment.asked, refund, processor],
    ...[some(workers), some(calls), left.lost, left.cancels, left.settles],
  ].join("|");
}

/** Yields all that can happen next. */
function* stepsOf(state: State, bounds: Bounds, by: Rules): Generator<readonly [string, State]> {
  const { order, attempt, reservation, workers, calls, left } = state;
  yield* decisionsOfOthers(state, by);
  const expired = by.findChange("expire", reservation);
  if (expired !== undefined) yield ["the reservation expires", { ...state, reservation: expired.to }];
  if (isOpen(order) && attempt < bounds.attempts && workers.length < mostWorkers) {
    const taken = [...workers, { attempt: attempt + 1, at: "start" as const }];
    yield [`the lease runs out, attempt ${attempt + 1} takes over`, { ...state, attempt: attempt + 1, workers: taken }];
  }
  const open = state.refund === "asked" ? "refund" : state.payment.asked;
  if (open !== undefined && left.settles > 0) {
    const call: Call = { at: open, attempt: 0 };
    yield ["payments settles by itself", { ...state, calls: [...calls, call], left: { ...left, settles: left.settles - 1 } }];
  }
  for (const [index, call] of calls.entries()) {
    const rest = calls.toSpliced(index, 1);
    yield* progressOf(state, call, rest, by);
    if (left.lost > 0) {
      const others = workers.filter((worker) => !isWaitingFor(worker, call));
      const cut = { ...state, calls: rest, workers: others, left: { ...left, lost: left.lost - 1 } };
      yield [`${call.at}[${call.attempt}] is cut off`, decideUnknown(cut, call, by)];
    }
  }
  for (const [index, worker] of workers.entries()) yield* moveOf(state, worker, (next) => workers.toSpliced(index, 1, ...next), by);
}

function* decisionsOfOthers(state: State, by: Rules): Generator<readonly [string, State]> {
  const { order, left } = state;
  const cancelled = by.findNext("cancel", order);
  if (left.cancels > 0 && cancelled !== undefined)
    yield ["the customer cancels", { ...state, order: cancelled, left: { ...left, cancels: left.cancels - 1 } }];
  const shipped = by.findNext("ship", order);
  if (shipped !== undefined) yield ["staff ships", { ...state, order: shipped }];
}

function isWaitingFor({ attempt, at, wait }: Worker, call: Call): boolean {
  return wait === true && attempt === call.attempt && at === call.at;
}

/** A broken rule may decide by itself where an outcome is not known. */
function decideUnknown(state: State, call: Call, by: Rules): State {
  const decided = by.onUnknown(call.at);
  return decided === "give up" || call.attempt !== state.attempt || state.order !== OrderState.PENDING
    ? state
    : { ...state, order: decided };
}

/** The service called takes its next step, up to its next commit, or the processor its own. */
function* progressOf(state: State, call: Call, rest: readonly Call[], by: Rules): Generator<readonly [string, State]> {
  const label = `${call.at}[${call.attempt}]`;
  const answer = (outcome: Outcome | "unknown", change: Partial<State> = {}): readonly [string, State] => {
    const workers = state.workers.flatMap((worker): Worker[] => {
      if (!isWaitingFor(worker, call)) return [worker];
      return outcome === "unknown" ? [] : [{ attempt: worker.attempt, at: nextAfter(call.at, outcome) }];
    });
    return [`${label} answers ${outcome}`, { ...state, ...change, workers, calls: rest }];
  };
  switch (call.at) {
    case "reserve": {
      const change = by.findChange("reserve", state.reservation);
      if (change !== undefined) yield answer("refused", { reservation: ReservationState.REFUSED });
      const reservation = change?.to ?? state.reservation;
      yield answer(isKept(reservation) ? "done" : "refused", { reservation });
      return;
    }
    case "commit": {
      if (state.reservation === ReservationState.UNSPECIFIED) return yield answer("unknown"); // NOT_FOUND
      const reservation = by.findChange("commit", state.reservation)?.to ?? state.reservation;
      return yield answer(reservation === ReservationState.COMMITTED ? "done" : "refused", { reservation });
    }
    case "release":
      return yield answer("done", { reservation: by.findChange("release", state.reservation)?.to ?? state.reservation });
    case "refund":
      return yield* refundOf(state, call, rest, answer, by);
    default:
      return yield* paymentOf(state, { ...call, at: call.at }, rest, answer, by);
  }
}

type Answer = (outcome: Outcome | "unknown", change?: Partial<State>) => readonly [string, State];

function* paymentOf(
  state: State,
  call: Call & { readonly at: Operation },
  rest: readonly Call[],
  answer: Answer,
  by: Rules,
): Generator<readonly [string, State]> {
  const label = `${call.at}[${call.attempt}]`;
  if (call.asked !== undefined && call.asked !== "refund" && call.said === undefined) {
    for (const { said, processor } of processorSays(call.asked, state.processor))
      yield [`${label}: the processor says ${said}`, { ...state, processor, calls: [...rest, { ...call, said }] }];
    return;
  }
  const payment = call.said === undefined || call.said === "refunded" ? state.payment : by.applyOutcome(state.payment, call.said);
  const step = by.decide(call.at, payment);
  const saved = { payment: step.save ?? payment };
  if ("ask" in step) {
    const next: Call = { at: call.at, attempt: call.attempt, asked: step.ask };
    return yield [`${label} asks the processor to ${step.ask}`, { ...state, ...saved, calls: [...rest, next] }];
  }
  const outcomes = { done: "done", declined: "refused", voided: "refused", captured: "captured" } as const;
  yield answer(step.answer in outcomes ? outcomes[step.answer as keyof typeof outcomes] : "unknown", saved);
}

function* refundOf(state: State, call: Call, rest: readonly Call[], answer: Answer, by: Rules): Generator<readonly [string, State]> {
  const label = `refund[${call.attempt}]`;
  if (call.said === "refunded")
    return yield answer("done", { refund: "done", payment: { state: PaymentState.REFUNDED, asked: undefined } });
  if (call.asked !== undefined) {
    const processor = state.processor === "captured" ? "refunded" : state.processor;
    return yield [`${label}: the processor refunds`, { ...state, processor, calls: [...rest, { ...call, said: "refunded" }] }];
  }
  const refunds: Refund[] =
    state.refund === "none" ? [] : [{ refundId: "the one", requested: undefined, amount: 1n, isDone: state.refund === "done" }];
  const step = by.decideRefund({ state: state.payment.state, amount: 1n, refunds }, { refundId: "the one", requested: undefined });
  if ("answer" in step) return yield answer("done");
  yield [`${label} asks the processor to refund`, { ...state, refund: "asked", calls: [...rest, { ...call, asked: "refund" }] }];
}

/** What a processor may say to a request, and its record then; a repeat gets the first answer. */
function processorSays(operation: Operation, processor: Processor): { said: Said; processor: Processor }[] {
  if (operation === "authorize") {
    if (processor === "none") return (["authorized", "declined"] as const).map((said) => ({ said, processor: said }));
    return [{ said: processor === "declined" ? "declined" : "authorized", processor }];
  }
  if (processor === "authorized") {
    const said = operation === "capture" ? "captured" : "voided";
    return [{ said, processor: said }];
  }
  return [{ said: processor === "captured" || processor === "refunded" ? "captured" : "voided", processor }];
}

/** The worker takes its next step; what it writes is fenced by the attempt and the state. */
function* moveOf(state: State, worker: Worker, replace: (next: Worker[]) => Worker[], by: Rules): Generator<readonly [string, State]> {
  const { attempt, at, wait } = worker;
  const { order, left } = state;
  const label = `worker ${attempt}`;
  if (wait) {
    // A late answer is one too many: the call goes on, its worker does not.
    if (left.lost === 0) return;
    const late = { ...state, workers: replace([]), left: { ...left, lost: left.lost - 1 } };
    yield [`${label} gives up on ${at}`, decideUnknown(late, { at: at as Call["at"], attempt }, by)];
    const rejecting = by.findNext("reject", order);
    if (attempt === state.attempt && rejecting !== undefined)
      yield [
        `${label} is out of time: ${OrderState[rejecting]}`,
        { ...late, order: rejecting, workers: replace([{ attempt, at: "start" }]) },
      ];
    return;
  }
  switch (at) {
    case "start": {
      if (attempt !== state.attempt || !isOpen(order)) return yield [`${label} stops`, { ...state, workers: replace([]) }];
      const begin = isUndoing(order) ? first.undo : first.forward;
      return yield [`${label} begins with ${begin}`, { ...state, workers: replace([{ attempt, at: begin }]) }];
    }
    case "confirm":
    case "reject":
    case "finish": {
      const to = by.findNext(at, order);
      // Where the write changes no row, the worker reads the row.
      const isWritten = attempt === state.attempt && to !== undefined;
      const next = isWritten ? { order: to } : {};
      return yield [
        `${label}: ${isWritten ? OrderState[to] : "reads the row"}`,
        { ...state, ...next, workers: replace([{ attempt, at: "start" }]) },
      ];
    }
    default:
      return yield [
        `${label} calls ${at}`,
        { ...state, workers: replace([{ attempt, at, wait: true }]), calls: [...state.calls, { at: at as Call["at"], attempt }] },
      ];
  }
}

/** What must never be once nobody works on the order and no call is under way. */
function violationOf({ order, reservation, payment, processor, workers, calls, left }: State, bounds: Bounds): string | undefined {
  if (workers.length > 0 || calls.length > 0 || isOpen(order)) return undefined;
  const [stock, record] = [ReservationState[reservation], PaymentState[payment.state]];
  if (left.cancels < bounds.cancels && order !== OrderState.CANCELLED) return `cancelled, but then ${OrderState[order]}`;
  if (order === OrderState.CONFIRMED || order === OrderState.SHIPPED) {
    if (reservation !== ReservationState.COMMITTED) return `confirmed, but the stock is ${stock}`;
    if (processor !== "captured") return `confirmed, but the money is ${processor}`;
    if (payment.state !== PaymentState.CAPTURED) return `the record says ${record}, the processor ${processor}`;
  }
  if (order === OrderState.REJECTED || order === OrderState.CANCELLED) {
    if (isKept(reservation)) return `${OrderState[order]}, but the stock is ${stock}`;
    if (processor === "authorized" || processor === "captured") return `${OrderState[order]}, but the money is ${processor}`;
    const isEnded = [PaymentState.VOIDED, PaymentState.DECLINED, PaymentState.REFUNDED].includes(payment.state);
    if (!isEnded) return `${OrderState[order]}, but the record says ${record}`;
  }
  return undefined;
}
