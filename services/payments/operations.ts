import type { Database } from "@parley/chassis/data/database.ts";
import type { Transaction } from "kysely";
import { createLedger } from "./ledger.ts";
import {
  type Answer,
  applyOutcome,
  decide,
  decideRefund,
  type Operation,
  type Outcome,
  type Refund,
  type RefundAnswer,
  refundedState,
  type Step,
  unseen,
} from "./payment.ts";
import type { Money, PaymentProcessor } from "./processor.ts";
import { type Charge, createStore, hashOf, type PaymentRequest, type Store, type StoredPayment, type Tables } from "./store.ts";

/** What became of a call, and the payment as it is then; undefined: there is none. */
export interface OperationResult<Answer> {
  readonly answer: Answer;
  readonly payment: StoredPayment | undefined;
}

/** What is done to payments, with the processor. */
export interface Operations {
  /** Begins a payment, or goes on with it. Rejects where the outcome is not known; so do the others. */
  authorize(request: PaymentRequest): Promise<OperationResult<Answer | "mismatch">>;
  capture(paymentId: string): Promise<OperationResult<Answer>>;
  void(paymentId: string): Promise<OperationResult<Answer>>;
  /** Refunds a payment; `requested` undefined: what is left of it. */
  refund(
    paymentId: string,
    request: { readonly refundId: string; readonly requested: Money | undefined },
  ): Promise<OperationResult<RefundAnswer>>;
  /** Asks again for all whose outcome is not known. */
  reconcile(paymentId: string): Promise<void>;
}

/**
 * Creates the way in which all operations go: what is to be asked is committed first, then the
 * processor is asked, under a key that is the payment's and the operation's, then its answer is
 * committed with its movement in the ledger. So whoever comes after a crash asks again.
 */
export function createOperations({
  database,
  processor,
  processorTimeoutMs,
}: {
  readonly database: Database<Tables>;
  readonly processor: PaymentProcessor;
  readonly processorTimeoutMs: number;
}): Operations {
  async function perform(operation: Operation, paymentId: string): Promise<OperationResult<Answer>> {
    const decided = await database.transaction(async (tx) => {
      const store = createStore(tx);
      return decideAndSave(store, operation, paymentId, await store.lock(paymentId));
    });
    return askUntilAnswered(operation, decided);
  }

  /** Asks the processor, and saves what it says, until there is an answer. */
  async function askUntilAnswered(operation: Operation, decided: Decided): Promise<OperationResult<Answer>> {
    let { step, payment } = decided;
    while ("ask" in step) {
      const asked = present(payment);
      const { paymentId } = asked.message;
      const said = await ask(step.ask, asked);
      ({ step, payment } = await database.transaction(async (tx) => {
        const recorded = await record(tx, present(await createStore(tx).lock(paymentId)), said);
        return decideAndSave(createStore(tx), operation, paymentId, recorded);
      }));
    }
    return { answer: step.answer, payment };
  }

  /** Decides what an operation does to a payment, which is locked, and saves that. */
  async function decideAndSave(
    store: Store,
    operation: Operation,
    paymentId: string,
    payment: StoredPayment | undefined,
  ): Promise<Decided> {
    const step = decide(operation, payment?.progress ?? unseen);
    if (step.save === undefined) return { step, payment };
    if (payment !== undefined) return { step, payment: isSame(payment, step.save) ? payment : await store.save(payment, step.save) };
    const tombstone = await store.insert(paymentId, step.save);
    if (tombstone !== undefined) return { step, payment: tombstone };
    return decideAndSave(store, operation, paymentId, await store.lock(paymentId)); // it came to be meanwhile
  }

  /** Saves what the processor said of a payment, which is locked, with its movement in the ledger; returns it as it is then. */
  async function record(tx: Transaction<Tables>, payment: StoredPayment, { outcome, charge }: ProcessorAnswer): Promise<StoredPayment> {
    const progress = applyOutcome(payment.progress, outcome);
    if (isSame(payment, progress)) return payment;
    const saved = await createStore(tx).save(payment, progress, charge);
    if (outcome === "captured")
      await createLedger(tx).write({
        paymentId: payment.message.paymentId,
        amount: present(payment.amount),
        debit: "PROCESSOR",
        credit: "SALES",
      });
    return saved;
  }

  async function ask(operation: Operation, payment: StoredPayment): Promise<ProcessorAnswer> {
    const request = { key: `${payment.message.paymentId}:${operation}`, signal: AbortSignal.timeout(processorTimeoutMs) };
    if (operation !== "authorize") return processor[operation]({ ...request, chargeId: present(payment.chargeId) });
    const { outcome, ...charge } = await processor.authorize({
      ...request,
      token: present(payment.token),
      amount: present(payment.amount),
    });
    return { outcome, charge };
  }

  async function refund(
    paymentId: string,
    { refundId, requested }: { readonly refundId: string; readonly requested: bigint | undefined },
    currencyCode?: string,
  ): Promise<OperationResult<RefundAnswer>> {
    const { step, payment } = await database.transaction(async (tx) => {
      const inTx = createStore(tx);
      const locked = await inTx.lock(paymentId);
      if (locked === undefined) return { step: { answer: "not found" } as const, payment: locked };
      const refunds = await inTx.listRefunds(paymentId);
      const isOtherCurrency = currencyCode !== undefined && currencyCode !== locked.amount?.currencyCode;
      const next = decideRefund(
        { state: locked.progress.state, amount: locked.amount?.minorUnits ?? 0n, refunds },
        { refundId, requested, isOtherCurrency },
      );
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
      await createLedger(tx).write({ paymentId, refundId, amount, debit: "REFUNDS", credit: "PROCESSOR" });
      const refunded = (locked.message.refunded?.minorUnits ?? 0n) + minorUnits;
      return inTx.addRefunded(paymentId, minorUnits, refundedState(present(locked.amount).minorUnits, refunded));
    });
  }

  return {
    async authorize(request) {
      const store = createStore(database.db);
      const step = decide("authorize", unseen);
      const payment = step.save && (await store.insert(request.paymentId, step.save, request));
      if (payment !== undefined) return askUntilAnswered("authorize", { step, payment });
      const before = await store.find(request.paymentId);
      if (before?.requestHash !== undefined && before.requestHash !== hashOf(request)) return { answer: "mismatch", payment: before };
      return perform("authorize", request.paymentId);
    },
    capture: (paymentId) => perform("capture", paymentId),
    void: (paymentId) => perform("void", paymentId),
    refund: (paymentId, { refundId, requested }) =>
      refund(paymentId, { refundId, requested: requested?.minorUnits }, requested?.currencyCode),
    async reconcile(paymentId) {
      const store = createStore(database.db);
      const asked = (await store.find(paymentId))?.progress.asked;
      const open = (await store.listRefunds(paymentId)).filter(({ isDone }) => !isDone);
      // Each for itself: one that fails again and again holds up no other.
      const outcomes = await Promise.allSettled([
        ...(asked === undefined ? [] : [perform(asked, paymentId)]),
        ...open.map((one) => refund(paymentId, one)),
      ]);
      for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    },
  };
}

/** What the processor has said. */
interface ProcessorAnswer {
  readonly outcome: Outcome;
  readonly charge?: Charge;
}

interface Decided {
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
