import type { Database } from "@parley/chassis/data/database.ts";
import { type Lease, startWork, type Worker } from "@parley/chassis/data/work.ts";
import type { Logger } from "pino";
import {
  decide,
  decideRefund,
  type Operation,
  type Outcome,
  type Refund,
  type RefundStep,
  refundedState,
  type Step,
  settle,
  unseen,
} from "./payment.ts";
import type { Money, PaymentProcessor } from "./processor.ts";
import { type Charge, createStore, type PaymentRequest, type Store, type StoredPayment, type Tables } from "./store.ts";

/** What became of a call, and the payment as it is then; undefined: there is none. */
export interface Settled<Answer> {
  readonly answer: Answer;
  readonly payment: StoredPayment | undefined;
}

/** Brings payments to where the processor says that they are. */
export interface Settlement {
  /** Begins a payment, or goes on with it. Rejects where the outcome is not known; so do the others. */
  authorize(request: PaymentRequest): Promise<Settled<Answer>>;
  capture(paymentId: string): Promise<Settled<Answer>>;
  void(paymentId: string): Promise<Settled<Answer>>;
  /** Refunds a payment; `requested` undefined: what is left of it. */
  refund(paymentId: string, request: { readonly refundId: string; readonly requested: bigint | undefined }): Promise<Settled<RefundAnswer>>;
  /** Asks again for all whose outcome is not known. */
  settleAll(paymentId: string): Promise<void>;
}

type Answer = Extract<Step, { answer: string }>["answer"];
type RefundAnswer = Extract<RefundStep, { answer: string }>["answer"] | "not found";

/**
 * Creates the way in which all operations go: what is to be asked is committed first, then the
 * processor is asked, under a key that is the payment's and the operation's, then its answer is
 * committed with its movement in the ledger. So whoever comes after a crash asks again.
 */
export function createSettlement({
  database,
  processor,
  processorTimeoutMs,
}: {
  readonly database: Database<Tables>;
  readonly processor: PaymentProcessor;
  readonly processorTimeoutMs: number;
}): Settlement {
  async function perform(operation: Operation, paymentId: string): Promise<Settled<Answer>> {
    return goOn(operation, await database.transaction(async (tx) => take(createStore(tx), operation, paymentId)));
  }

  /** Asks the processor, and saves what it says, until there is an answer. */
  async function goOn(operation: Operation, taken: Taken): Promise<Settled<Answer>> {
    let { step, payment } = taken;
    while ("ask" in step) {
      const asked = present(payment);
      const { paymentId } = asked.message;
      const said = await ask(step.ask, asked);
      ({ step, payment } = await database.transaction(async (tx) => {
        const inTx = createStore(tx);
        await record(inTx, present(await inTx.lock(paymentId)), said);
        return take(inTx, operation, paymentId);
      }));
    }
    return { answer: step.answer, payment };
  }

  /** Decides what an operation does to a payment, and saves that. */
  async function take(store: Store, operation: Operation, paymentId: string): Promise<Taken> {
    const payment = await store.lock(paymentId);
    const step = decide(operation, payment?.progress ?? unseen);
    if (step.save === undefined) return { step, payment };
    if (payment !== undefined) return { step, payment: isSame(payment, step.save) ? payment : await store.save(payment, step.save) };
    const tombstone = await store.insertVoided(paymentId);
    return tombstone === undefined ? take(store, operation, paymentId) : { step, payment: tombstone };
  }

  async function record(store: Store, payment: StoredPayment, { outcome, charge }: Said): Promise<void> {
    const progress = settle(payment.progress, outcome);
    if (isSame(payment, progress)) return;
    await store.save(payment, progress, charge);
    if (outcome === "captured")
      await store.writeMovement({
        paymentId: payment.message.paymentId,
        amount: present(payment.amount),
        into: "PROCESSOR",
        outOf: "SALES",
      });
  }

  async function ask(operation: Operation, payment: StoredPayment): Promise<Said> {
    const request = { key: `${payment.message.paymentId}:${operation}`, signal: AbortSignal.timeout(processorTimeoutMs) };
    if (operation !== "authorize") return processor[operation]({ ...request, chargeId: present(payment.chargeId) });
    const { outcome, ...charge } = await processor.authorize({
      ...request,
      token: present(payment.token),
      amount: present(payment.amount),
    });
    return { outcome, charge };
  }

  async function refund(paymentId: string, request: Parameters<Settlement["refund"]>[1]): Promise<Settled<RefundAnswer>> {
    const { step, payment } = await database.transaction(async (tx) => {
      const inTx = createStore(tx);
      const locked = await inTx.lock(paymentId);
      if (locked === undefined) return { step: { answer: "not found" } as const, payment: locked };
      const refunds = await inTx.listRefunds(paymentId);
      const next = decideRefund({ state: locked.progress.state, amount: locked.amount?.minorUnits ?? 0n, refunds }, request);
      if ("ask" in next) await inTx.saveRefund(paymentId, next.ask);
      return { step: next, payment: locked };
    });
    if ("answer" in step) return { answer: step.answer, payment };
    return { answer: "done", payment: await giveBack(present(payment), step.ask) };
  }

  async function giveBack(payment: StoredPayment, { refundId, amount: minorUnits }: Refund): Promise<StoredPayment> {
    const { paymentId } = payment.message;
    const amount: Money = { ...present(payment.amount), minorUnits };
    const signal = AbortSignal.timeout(processorTimeoutMs);
    await processor.refund({ key: `${paymentId}:refund:${refundId}`, signal, chargeId: present(payment.chargeId), amount });
    return database.transaction(async (tx) => {
      const inTx = createStore(tx);
      const locked = present(await inTx.lock(paymentId));
      if (!(await inTx.endRefund(paymentId, refundId))) return locked;
      await inTx.writeMovement({ paymentId, refundId, amount, into: "REFUNDS", outOf: "PROCESSOR" });
      const refunded = (locked.message.refunded?.minorUnits ?? 0n) + minorUnits;
      return inTx.addRefunded(paymentId, minorUnits, refundedState(present(locked.amount).minorUnits, refunded));
    });
  }

  return {
    async authorize(request) {
      const payment = await createStore(database.db).insertAsked(request);
      if (payment === undefined) return perform("authorize", request.paymentId);
      return goOn("authorize", { step: decide("authorize", unseen), payment });
    },
    capture: (paymentId) => perform("capture", paymentId),
    void: (paymentId) => perform("void", paymentId),
    refund,
    async settleAll(paymentId) {
      const store = createStore(database.db);
      const asked = (await store.find(paymentId))?.progress.asked;
      if (asked !== undefined) await perform(asked, paymentId);
      for (const { refundId, requested, isDone } of await store.listRefunds(paymentId))
        if (!isDone) await refund(paymentId, { refundId, requested });
    },
  };
}

/** Starts to ask again for what no caller asks for any more. */
export function startSettling({
  database,
  settlement,
  log,
}: {
  readonly database: Database<Tables>;
  readonly settlement: Settlement;
  readonly log: Logger;
}): Worker {
  return startWork({
    database,
    table: "payment",
    key: "payment_id",
    log,
    async handle(lease: Lease) {
      await settlement.settleAll(lease.key);
      await createStore(database.db).endWork(lease);
    },
  });
}

/** What the processor has said. */
interface Said {
  readonly outcome: Outcome;
  readonly charge?: Charge;
}

interface Taken {
  readonly step: Step;
  readonly payment: StoredPayment | undefined;
}

function isSame({ progress }: StoredPayment, other: StoredPayment["progress"]): boolean {
  return progress.state === other.state && progress.asked === other.asked;
}

/** Returns what must be there by the payment's state. */
function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("a payment lacks what its state needs");
  return value;
}
