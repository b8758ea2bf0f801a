import { randomUUID } from "node:crypto";
import { Code, createClient } from "@connectrpc/connect";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { asService, asUser } from "@parley/chassis/testing/auth.ts";
import { openTestDatabase } from "@parley/chassis/testing/database.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { failureOf, reasonOf } from "@parley/chassis/testing/failure.ts";
import { createTestLog, openTestServer, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { BadRequestSchema, ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { DeclineReason, type Payment, PaymentsService, PaymentState as State } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { sql } from "kysely";
import { Registry } from "prom-client";
import { expect, onTestFinished, test } from "vitest";
import { createHandlers } from "./handlers.ts";
import { createLedger } from "./ledger.ts";
import { startLedgerCheck } from "./ledger-check.ts";
import { createOperations } from "./operations.ts";
import type { PaymentProcessor } from "./processor.ts";
import { startReconciliation } from "./reconciliation.ts";
import { paymentsDatabase } from "./service.ts";
import { openSimulatedProcessor } from "./simulated-processor.ts";
import { createStore } from "./store.ts";

const eur = (minorUnits: bigint) => ({ currencyCode: "EUR", minorUnits });

/** Payments with the simulated processor, parts of which are the test's, and no settling but by its callers. */
async function openPayments({
  processorTimeoutMs = 3_000,
  tamper = {},
}: {
  processorTimeoutMs?: number;
  tamper?: Partial<PaymentProcessor>;
} = {}) {
  const database = await openTestDatabase(paymentsDatabase);
  const simulated = openSimulatedProcessor(database.url);
  onTestFinished(() => simulated.stop());
  const processor = { ...simulated, ...tamper };
  const operations = createOperations({ database, processor, processorTimeoutMs });
  const store = createStore(database.db);
  const ledger = createLedger(database.db);
  const { port } = await openTestServer([implement(PaymentsService, createHandlers({ database, operations }))]);
  const client = createClient(PaymentsService, openTestTransport([port], { retries: false })); // which repeats nothing by itself
  const service = await asService();
  const request = (overrides: { paymentId?: string; paymentToken?: string; customerId?: string; amount?: bigint } = {}) => {
    const { paymentId = randomUUID() as string, paymentToken = "tok_approved", customerId = "alice", amount = 1_000n } = overrides;
    return { paymentId, orderId: paymentId, customerId, amount: eur(amount), paymentToken };
  };
  const authorize = async (given = request()) => (await client.authorize(given, service)).payment!;
  const capture = async (paymentId: string) => (await client.capture({ paymentId }, service)).payment!;
  const voidIt = async (paymentId: string) => (await client.void({ paymentId }, service)).payment!;
  const refund = async (paymentId: string, amount?: bigint, refundId: string = randomUUID()) =>
    (await client.refund({ paymentId, refundId, ...(amount !== undefined && { amount: eur(amount) }) }, service)).payment!;
  const captured = async (given = request()) => capture((await authorize(given)).paymentId);
  /** What the processor has recorded: how many charges of each state, and what is left of those that were captured. */
  const atProcessor = async () => {
    const { rows } = await sql<{ state: string; count: number; left: number }>`
      SELECT state, count(*)::int AS count, sum(amount - refunded)::int AS left FROM processor.charge GROUP BY state`.execute(database.db);
    return Object.fromEntries(rows.map(({ state, count, left }) => [state, state === "CAPTURED" ? { count, left } : count]));
  };
  return { database, operations, store, ledger, client, service, request, authorize, capture, voidIt, refund, captured, atProcessor };
}

const declined = [Code.FailedPrecondition, "PAYMENT_DECLINED"];
const voided = [Code.FailedPrecondition, "PAYMENT_VOIDED"];
const statesOf = ({ history }: Payment): string[] => history.map(({ state }) => State[state]);

test("a payment is authorized, captured and refunded, with its history, and the processor says the same", async () => {
  const { client, service, authorize, capture, refund, atProcessor } = await openPayments();
  const { paymentId, state } = await authorize();
  expect(state).toBe(State.AUTHORIZED);
  expect(await atProcessor()).toEqual({ AUTHORIZED: 1 });
  expect((await capture(paymentId)).state).toBe(State.CAPTURED);
  expect(await atProcessor()).toEqual({ CAPTURED: { count: 1, left: 1_000 } });
  const refunded = await refund(paymentId);
  expect(refunded).toMatchObject({ state: State.REFUNDED, refunded: eur(1_000n) });
  expect(statesOf(refunded)).toEqual(["PENDING", "AUTHORIZED", "CAPTURED", "REFUNDED"]);
  expect(await atProcessor()).toEqual({ CAPTURED: { count: 1, left: 0 } });
  expect((await client.getPayment({ paymentId }, service)).payment).toEqual(refunded);
});

test("a payment that is kept can be given up, and is never taken then", async () => {
  const { authorize, capture, voidIt, atProcessor, request } = await openPayments();
  const { paymentId } = await authorize();
  expect((await voidIt(paymentId)).state).toBe(State.VOIDED);
  expect((await voidIt(paymentId)).state).toBe(State.VOIDED);
  expect(await reasonOf(capture(paymentId))).toEqual(voided);
  expect(await reasonOf(authorize(request({ paymentId })))).toEqual(voided);
  expect(await atProcessor()).toEqual({ VOIDED: 1 });
});

test.each([
  ["tok_declined", "GENERIC"],
  ["tok_insufficient_funds", "INSUFFICIENT_FUNDS"],
  ["tok_expired_card", "EXPIRED_CARD"],
  ["tok_lost_card", "LOST_CARD"],
  ["tok_stolen_card", "STOLEN_CARD"],
  ["tok_incorrect_cvc", "INCORRECT_CVC"],
  ["tok_suspected_fraud", "SUSPECTED_FRAUD"],
  ["tok_nobody_knows", "UNKNOWN_TOKEN"],
] as const)("%s is declined as %s, and stays so", async (paymentToken, reason) => {
  const { client, service, authorize, voidIt, capture, request } = await openPayments();
  const given = request({ paymentToken });
  for (let time = 0; time < 2; time++) {
    const error = await failureOf(authorize(given));
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "PAYMENT_DECLINED", metadata: { declineReason: reason } }]);
  }
  const { payment } = await client.getPayment({ paymentId: given.paymentId }, service);
  expect(payment).toMatchObject({ state: State.DECLINED, declineReason: DeclineReason[reason] });
  expect(await reasonOf(capture(given.paymentId))).toEqual(declined);
  expect((await voidIt(given.paymentId)).state).toBe(State.DECLINED); // there is nothing to give up
});

test("a repeat gets the first answer, also at once, and moves nothing twice", async () => {
  const { authorize, capture, refund, request, atProcessor, database } = await openPayments();
  const given = request();
  const all = await Promise.all(Array.from({ length: 8 }, () => authorize(given)));
  expect(new Set(all.map(({ state }) => state))).toEqual(new Set([State.AUTHORIZED]));
  // Double capture: Medusa #13301.
  await Promise.all(Array.from({ length: 8 }, () => capture(given.paymentId)));
  const refundId = randomUUID();
  await Promise.all(Array.from({ length: 8 }, () => refund(given.paymentId, 300n, refundId)));
  expect(await atProcessor()).toEqual({ CAPTURED: { count: 1, left: 700 } });
  expect(await database.db.selectFrom("ledger_movement").select("refund_id").execute()).toHaveLength(2);
  expect((await authorize(given)).state).toBe(State.PARTIALLY_REFUNDED); // it was authorized
});

test("the same id with other contents is refused", async () => {
  const { client, service, authorize, captured, refund, request } = await openPayments();
  const given = request();
  await authorize(given);
  const mismatch = [Code.AlreadyExists, "REQUEST_MISMATCH"];
  for (const other of [
    { ...given, amount: eur(1_001n) },
    { ...given, amount: { currencyCode: "USD", minorUnits: 1_000n } },
    { ...given, customerId: "bob" },
    { ...given, orderId: randomUUID() },
    { ...given, paymentToken: "tok_slow" },
  ])
    expect(await reasonOf(authorize(other))).toEqual(mismatch);
  const { paymentId } = await captured();
  const refundId = randomUUID();
  await refund(paymentId, 300n, refundId);
  expect(await reasonOf(refund(paymentId, 301n, refundId))).toEqual(mismatch);
  expect(await reasonOf(refund(paymentId, undefined, refundId))).toEqual(mismatch);
  const amount = { currencyCode: "USD", minorUnits: 300n };
  expect(await reasonOf(client.refund({ paymentId, refundId, amount }, service))).toEqual(mismatch);
});

test("what was voided before it was seen is never authorized", async () => {
  const { authorize, voidIt, capture, request, atProcessor } = await openPayments();
  const paymentId = randomUUID();
  expect(await voidIt(paymentId)).toMatchObject({ state: State.VOIDED, orderId: "" });
  expect(await reasonOf(authorize(request({ paymentId })))).toEqual(voided);
  expect(await reasonOf(capture(paymentId))).toEqual(voided);
  expect(await atProcessor()).toEqual({});
});

test("what was captured cannot be voided, but refunded: in parts, of what is left, and not of more", async () => {
  const { captured, voidIt, refund, atProcessor } = await openPayments();
  const { paymentId } = await captured();
  expect(await reasonOf(voidIt(paymentId))).toEqual([Code.FailedPrecondition, "PAYMENT_CAPTURED"]);
  expect(await refund(paymentId, 300n)).toMatchObject({ state: State.PARTIALLY_REFUNDED, refunded: eur(300n) });
  expect(await reasonOf(voidIt(paymentId))).toEqual([Code.FailedPrecondition, "PAYMENT_CAPTURED"]);
  expect(await reasonOf(refund(paymentId, 701n))).toEqual([Code.FailedPrecondition, "REFUND_EXCEEDS_PAYMENT"]);
  expect(await refund(paymentId, 100n)).toMatchObject({ refunded: eur(400n) });
  expect(await refund(paymentId)).toMatchObject({ state: State.REFUNDED, refunded: eur(1_000n) });
  expect(await refund(paymentId)).toMatchObject({ state: State.REFUNDED, refunded: eur(1_000n) });
  expect((await voidIt(paymentId)).state).toBe(State.REFUNDED); // nothing is left to undo
  expect(await atProcessor()).toEqual({ CAPTURED: { count: 1, left: 0 } });
});

test("a refund in another currency, or of what is not taken yet, is refused; of what never will be, it is nothing", async () => {
  const { client, service, authorize, refund, voidIt } = await openPayments();
  const { paymentId } = await authorize();
  const amount = { currencyCode: "USD", minorUnits: 1n };
  const exceeds = [Code.FailedPrecondition, "REFUND_EXCEEDS_PAYMENT"];
  expect(await reasonOf(client.refund({ paymentId, refundId: randomUUID(), amount }, service))).toEqual(exceeds);
  expect(await reasonOf(refund(paymentId, 1n))).toEqual(exceeds);
  expect(await reasonOf(refund(paymentId))).toEqual(exceeds);
  await voidIt(paymentId);
  expect(await reasonOf(refund(paymentId, 1n))).toEqual(exceeds);
  expect((await refund(paymentId)).state).toBe(State.VOIDED);
});

test("a refund whose id is repeated in capitals is the same refund", async () => {
  const { captured, refund, atProcessor } = await openPayments();
  const { paymentId } = await captured();
  const refundId = "abcdef01-5f7e-4cc1-8a62-3f0a0c5f9d11";
  await refund(paymentId, 300n, refundId);
  expect(await refund(paymentId.toUpperCase(), 300n, refundId.toUpperCase())).toMatchObject({ refunded: eur(300n) });
  expect(await atProcessor()).toEqual({ CAPTURED: { count: 1, left: 700 } });
});

test("refunds at once never give back more than was taken", async () => {
  const { client, service, captured, refund, atProcessor } = await openPayments();
  const { paymentId } = await captured();
  const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => refund(paymentId, 300n)));
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
  expect((await client.getPayment({ paymentId }, service)).payment).toMatchObject({ refunded: eur(900n) });
  expect(await atProcessor()).toEqual({ CAPTURED: { count: 1, left: 100 } });
});

test("a request that the processor did, but did not answer in time, is unknown, and found done when it is repeated", async () => {
  const { authorize, capture, request, atProcessor } = await openPayments({ processorTimeoutMs: 50 });
  const given = request({ paymentToken: "tok_times_out" });
  expect((await failureOf(authorize(given))).code).toBe(Code.Unavailable);
  expect(await atProcessor()).toEqual({ AUTHORIZED: 1 });
  expect((await authorize(given)).state).toBe(State.AUTHORIZED);
  expect((await failureOf(capture(given.paymentId))).code).toBe(Code.Unavailable);
  expect((await capture(given.paymentId)).state).toBe(State.CAPTURED);
  expect(await atProcessor()).toEqual({ CAPTURED: { count: 1, left: 1_000 } }); // not a second charge: Online Boutique #3474
});

test("a processor that fails first and works then is asked again under the same key", async () => {
  const { authorize, request, atProcessor } = await openPayments();
  const given = request({ paymentToken: "tok_fails_then_works" });
  expect((await failureOf(authorize(given))).code).toBe(Code.Unavailable);
  expect(await atProcessor()).toEqual({});
  expect((await failureOf(authorize(given))).code).toBe(Code.Unavailable);
  expect((await authorize(given)).state).toBe(State.AUTHORIZED);
});

test("a processor that takes longer than it is given is unknown, not refused", async () => {
  const { client, service, authorize, request } = await openPayments({ processorTimeoutMs: 50 });
  const given = request({ paymentToken: "tok_slow" });
  expect((await failureOf(authorize(given))).code).toBe(Code.Unavailable);
  expect((await client.getPayment({ paymentId: given.paymentId }, service)).payment?.state).toBe(State.PENDING);
});

test("a void brings an open authorization to its end first", async () => {
  const { authorize, voidIt, request, atProcessor } = await openPayments({ processorTimeoutMs: 50 });
  const given = request({ paymentToken: "tok_times_out" });
  await failureOf(authorize(given));
  expect((await failureOf(voidIt(given.paymentId))).code).toBe(Code.Unavailable); // the void itself times out as well
  const payment = await voidIt(given.paymentId);
  expect(statesOf(payment)).toEqual(["PENDING", "AUTHORIZED", "VOIDED"]);
  expect(await atProcessor()).toEqual({ VOIDED: 1 });
});

test("between a capture and a void at once the processor decides, and both are told the same", async () => {
  const { authorize, capture, voidIt, client, service, atProcessor } = await openPayments();
  for (let round = 0; round < 10; round++) {
    const { paymentId } = await authorize();
    await Promise.allSettled([capture(paymentId), voidIt(paymentId)]);
    const { payment } = await client.getPayment({ paymentId }, service);
    const wasCaptured = payment!.state === State.CAPTURED;
    expect(wasCaptured || payment!.state === State.VOIDED).toBe(true);
    if (wasCaptured) expect(await reasonOf(voidIt(paymentId))).toEqual([Code.FailedPrecondition, "PAYMENT_CAPTURED"]);
    else expect(await reasonOf(capture(paymentId))).toEqual(voided);
  }
  const { CAPTURED, VOIDED } = await atProcessor();
  expect((CAPTURED === undefined ? 0 : Object(CAPTURED).count) + Number(VOIDED ?? 0)).toBe(10);
});

test("what was asked for and nobody asks for any more is brought to its end by the service itself", async () => {
  const { database, operations, authorize, captured, refund, request, client, service, atProcessor } = await openPayments({
    processorTimeoutMs: 50,
  });
  const given = request({ paymentToken: "tok_times_out" });
  await failureOf(authorize(given));
  const taken = await captured();
  await sql`UPDATE processor.charge SET token = 'tok_times_out' WHERE state = 'CAPTURED'`.execute(database.db);
  await failureOf(refund(taken.paymentId, 300n));
  await sql`UPDATE payment SET due_at = now()`.execute(database.db); // as it is 10 s later
  const worker = startReconciliation({ database, operations, log: createTestLog().log });
  onTestFinished(() => worker.stop());
  await eventually(async () => {
    expect((await client.getPayment({ paymentId: given.paymentId }, service)).payment?.state).toBe(State.AUTHORIZED);
    expect((await client.getPayment({ paymentId: taken.paymentId }, service)).payment?.state).toBe(State.PARTIALLY_REFUNDED);
    expect((await database.db.selectFrom("payment").select("due_at").execute()).map((row) => row.due_at)).toEqual([null, null]);
  });
  expect(await atProcessor()).toEqual({ AUTHORIZED: 1, CAPTURED: { count: 1, left: 700 } });
});

test("a refund that was not answered is brought to its end though another was, and the ledger says both", async () => {
  const { database, operations, captured, refund, client, service, atProcessor, ledger } = await openPayments({ processorTimeoutMs: 50 });
  const { paymentId } = await captured();
  await sql`UPDATE processor.charge SET token = 'tok_times_out'`.execute(database.db);
  await failureOf(refund(paymentId, 300n));
  const other = randomUUID();
  await failureOf(refund(paymentId, 200n, other));
  expect(await refund(paymentId, 200n, other)).toMatchObject({ refunded: eur(200n) });
  await sql`UPDATE payment SET due_at = now() WHERE due_at IS NOT NULL`.execute(database.db);
  const worker = startReconciliation({ database, operations, log: createTestLog().log });
  onTestFinished(() => worker.stop());
  await eventually(async () => expect((await client.getPayment({ paymentId }, service)).payment).toMatchObject({ refunded: eur(500n) }));
  expect(await atProcessor()).toEqual({ CAPTURED: { count: 1, left: 500 } });
  expect(await ledger.listDifferences()).toEqual([]);
  await eventually(async () => expect((await database.db.selectFrom("payment").select("due_at").execute())[0]?.due_at).toBeNull());
});

test("a refund that is opened while another is brought to its end is not forgotten", async () => {
  const { database, operations, captured, refund } = await openPayments({ processorTimeoutMs: 50 });
  const worker = startReconciliation({ database, operations, log: createTestLog().log });
  onTestFinished(() => worker.stop());
  const payments = await Promise.all(Array.from({ length: 20 }, () => captured()));
  await sql`UPDATE processor.charge SET token = 'tok_times_out'`.execute(database.db);
  await Promise.all(payments.map(({ paymentId }) => failureOf(refund(paymentId, 100n))));
  await sql`UPDATE payment SET due_at = now()`.execute(database.db);
  worker.wake();
  await Promise.all(payments.map(({ paymentId }) => failureOf(refund(paymentId, 200n))));
  // In one statement: the worker goes on meanwhile.
  const { rows: forgotten } = await sql`SELECT payment_id FROM payment
    WHERE due_at IS NULL AND EXISTS (SELECT FROM refund WHERE refund.payment_id = payment.payment_id AND NOT is_done)`.execute(database.db);
  expect(forgotten).toEqual([]);
  await eventually(async () => {
    await sql`UPDATE payment SET due_at = now() WHERE due_at IS NOT NULL`.execute(database.db);
    const { rows } = await sql<{ open: number }>`SELECT count(*)::int AS open FROM refund WHERE NOT is_done`.execute(database.db);
    expect(rows).toEqual([{ open: 0 }]);
  });
});

test("a refund that the processor fails again and again holds up no other", async () => {
  const bad = randomUUID();
  const { database, operations, captured, refund, client, service } = await openPayments({
    tamper: {
      refund: async ({ key }) => {
        if (key.endsWith(bad) || !isBack) throw new Error("the processor fails");
      },
    },
  });
  let isBack = false;
  const { paymentId } = await captured();
  await failureOf(refund(paymentId, 100n, bad));
  await failureOf(refund(paymentId, 200n));
  isBack = true;
  await sql`UPDATE payment SET due_at = now()`.execute(database.db);
  const worker = startReconciliation({ database, operations, log: createTestLog().log });
  onTestFinished(() => worker.stop());
  await eventually(async () => expect((await client.getPayment({ paymentId }, service)).payment).toMatchObject({ refunded: eur(200n) }));
});

test("another request under an id whose outcome is not known is refused, and asks the processor for nothing", async () => {
  const { authorize, request, atProcessor } = await openPayments({ processorTimeoutMs: 50 });
  const given = request({ paymentToken: "tok_fails_then_works" });
  await failureOf(authorize(given));
  expect(await reasonOf(authorize({ ...given, amount: eur(2n) }))).toEqual([Code.AlreadyExists, "REQUEST_MISMATCH"]);
  expect(await atProcessor()).toEqual({});
});

test("what the processor is asked for is committed before it is asked", async () => {
  let asked: string | undefined;
  const { store, authorize, capture, refund } = await openPayments({
    tamper: {
      async capture({ chargeId }) {
        const [payment] = await store.list({ before: undefined, limit: 1, customerId: undefined, orderId: "" });
        asked = payment?.chargeId === chargeId ? payment.progress.asked : undefined;
        throw new Error("the process is killed here");
      },
    },
  });
  const { paymentId } = await authorize();
  expect((await failureOf(capture(paymentId))).code).toBe(Code.Internal);
  expect(asked).toBe("capture");
  expect((await store.find(paymentId))?.progress).toEqual({ state: State.AUTHORIZED, asked: "capture" });
  // Nothing is known to be taken yet.
  expect(await reasonOf(refund(paymentId))).toEqual([Code.FailedPrecondition, "REFUND_EXCEEDS_PAYMENT"]);
});

test("each movement of the ledger balances, and the balances say what was earned and given back", async () => {
  const { client, captured, refund, request, authorize } = await openPayments();
  const staff = await asUser("bob", "staff");
  await authorize(); // kept, not taken: no movement
  const { paymentId } = await captured(request({ amount: 700n }));
  await captured(request({ amount: 300n }));
  await refund(paymentId, 200n);
  const { balances } = await client.getBalances({}, staff);
  expect(balances.map(({ account, amount }) => [account, Number(amount!.minorUnits)])).toEqual([
    [1, 800],
    [3, 200],
    [2, -1_000],
  ]);
});

test("the database refuses a movement that does not balance, and any change of the ledger", async () => {
  const { database, captured } = await openPayments();
  const { paymentId } = await captured();
  const { db } = database;
  const write = (amounts: readonly number[]) =>
    database.transaction(async (tx) => {
      const movement = randomUUID();
      const refundId = randomUUID();
      await sql`INSERT INTO refund (payment_id, refund_id, amount) VALUES (${paymentId}, ${refundId}, 1)`.execute(tx);
      await sql`INSERT INTO ledger_movement (movement_id, payment_id, refund_id, currency_code) VALUES (${movement}, ${paymentId}, ${refundId}, 'EUR')`.execute(
        tx,
      );
      for (const [index, amount] of amounts.entries())
        await sql`INSERT INTO ledger_entry (movement_id, account, currency_code, amount)
          VALUES (${movement}, ${["PROCESSOR", "SALES", "REFUNDS"][index]}, 'EUR', ${amount})`.execute(tx);
    });
  await expect(write([])).rejects.toThrow("is not balanced");
  await expect(write([5])).rejects.toThrow("is not balanced");
  await expect(write([5, -4])).rejects.toThrow("is not balanced");
  await write([5, -3, -2]);
  // Nor is anything added to a movement later, in another currency or account.
  const { movement_id: movementId } = await db.selectFrom("ledger_movement").select("movement_id").executeTakeFirstOrThrow();
  const later = (account: string, currency: string, amount: number) =>
    sql`INSERT INTO ledger_entry VALUES (${movementId}, ${account}, ${currency}, ${amount})`.execute(db);
  await expect(later("REFUNDS", "USD", 1)).rejects.toThrow();
  await expect(later("REFUNDS", "EUR", 1)).rejects.toThrow("is not balanced");
  for (const statement of [
    "UPDATE ledger_entry SET amount = 1",
    "DELETE FROM ledger_entry",
    "DELETE FROM ledger_movement",
    "TRUNCATE ledger_entry",
  ])
    await expect(sql.raw(statement).execute(db)).rejects.toThrow("the ledger is never changed");
});

test("the database lets a payment change in legal ways alone", async () => {
  const { database, request } = await openPayments();
  const legal = new Set([
    "PENDING AUTHORIZED",
    "PENDING DECLINED",
    "AUTHORIZED CAPTURED",
    "AUTHORIZED VOIDED",
    "CAPTURED PARTIALLY_REFUNDED",
    "CAPTURED REFUNDED",
    "PARTIALLY_REFUNDED REFUNDED",
  ]);
  const states = Object.keys(State).filter((name) => Number.isNaN(Number(name)) && name !== "UNSPECIFIED");
  for (const from of states) {
    for (const to of states.filter((state) => state !== from)) {
      const { paymentId } = request();
      await sql`INSERT INTO payment (payment_id, state, history) VALUES (${paymentId}, ${from}, '[]')`.execute(database.db);
      const changing = sql`UPDATE payment SET state = ${to} WHERE payment_id = ${paymentId}`.execute(database.db);
      if (legal.has(`${from} ${to}`)) await changing;
      else await expect(changing).rejects.toThrow(`may not come from ${from} to ${to}`);
    }
  }
});

test("a ledger that says something else than a payment is told, and counted", async () => {
  const { ledger, database, captured } = await openPayments();
  const { paymentId } = await captured();
  await captured();
  const registry = new Registry();
  const { log, logs } = createTestLog();
  const check = startLedgerCheck({ ledger, registry, log });
  await check.stop();
  expect(await registry.metrics()).toContain("parley_ledger_differences 0");
  await sql`ALTER TABLE payment DISABLE TRIGGER USER`.execute(database.db);
  await sql`UPDATE payment SET state = 'VOIDED' WHERE payment_id = ${paymentId}`.execute(database.db);
  expect(await ledger.listDifferences()).toEqual([{ paymentId, state: "VOIDED", expected: 0n, inLedger: 1_000n }]);
  const other = new Registry();
  await startLedgerCheck({ ledger, registry: other, log }).stop();
  expect(await other.metrics()).toContain("parley_ledger_differences 1");
  expect(logs).toContainEqual(expect.objectContaining({ payment_id: paymentId, severity_text: "ERROR" }));
});

test("customers see their own payments, staff and services all, a page at a time, the newest first", async () => {
  const { client, service, authorize, request } = await openPayments();
  const [alice, bob, staff] = [await asUser("alice", "customer"), await asUser("bob", "customer"), await asUser("eve", "staff")];
  const made: string[] = [];
  for (const customerId of ["alice", "bob", "alice", "alice"]) made.push((await authorize(request({ customerId }))).paymentId);
  const [first, ofBob, third, last] = made;
  expect((await client.getPayment({ paymentId: first! }, alice)).payment?.customerId).toBe("alice");
  expect(await reasonOf(client.getPayment({ paymentId: first! }, bob))).toEqual([Code.NotFound, "PAYMENT_NOT_FOUND"]);
  const page = await client.listPayments({ pageSize: 2 }, alice);
  expect(page.payments.map(({ paymentId }) => paymentId)).toEqual([last, third]);
  const rest = await client.listPayments({ pageSize: 2, pageToken: page.nextPageToken }, alice);
  expect([rest.payments.map(({ paymentId }) => paymentId), rest.nextPageToken]).toEqual([[first], ""]);
  for (const caller of [staff, service]) expect((await client.listPayments({}, caller)).payments).toHaveLength(4);
  expect((await client.listPayments({ orderId: ofBob! }, staff)).payments).toMatchObject([{ paymentId: ofBob }]);
  expect((await client.listPayments({ orderId: ofBob! }, alice)).payments).toEqual([]);
});

test("nobody but services moves money, but for refunds by staff, and nobody but staff sees the balances", async () => {
  const { client, service, captured, request } = await openPayments();
  const [alice, staff] = [await asUser("alice", "customer"), await asUser("eve", "staff")];
  const { paymentId } = await captured();
  const denied = [Code.PermissionDenied, "PERMISSION_DENIED"];
  for (const user of [alice, staff]) {
    expect(await reasonOf(client.authorize(request(), user))).toEqual(denied);
    expect(await reasonOf(client.capture({ paymentId }, user))).toEqual(denied);
    expect(await reasonOf(client.void({ paymentId }, user))).toEqual(denied);
  }
  expect(await reasonOf(client.refund({ paymentId, refundId: randomUUID() }, alice))).toEqual(denied);
  expect(await reasonOf(client.getBalances({}, alice))).toEqual(denied);
  expect(await reasonOf(client.getBalances({}, service))).toEqual(denied);
  expect((await client.refund({ paymentId, refundId: randomUUID() }, staff)).payment?.state).toBe(State.REFUNDED);
});

const id = randomUUID();
const good = { paymentId: id, orderId: id, customerId: "alice", amount: eur(1n), paymentToken: "tok_approved" };
test.each([
  ["payment_id", { ...good, paymentId: "1" }],
  ["order_id", { ...good, orderId: "" }],
  ["customer_id", { ...good, customerId: "" }],
  ["customer_id", { ...good, customerId: "a\0" }],
  ["amount", { paymentId: id, orderId: id, customerId: "alice", paymentToken: "tok_approved" }],
  ["amount", { ...good, amount: eur(0n) }],
  ["amount", { ...good, amount: eur(-5n) }],
  ["amount", { ...good, amount: eur(10_000_000_000_001n) }],
  ["amount.currency_code", { ...good, amount: { currencyCode: "eur", minorUnits: 1n } }],
  ["payment_token", { ...good, paymentToken: "" }],
  ["payment_token", { ...good, paymentToken: "4111 1111 1111 1111" }],
])("a wrong %s is told (%#)", async (field, given) => {
  const { client, service } = await openPayments();
  const error = await failureOf(client.authorize(given, service));
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field).toBe(field);
});

test("ids that are no UUIDs, refunds of nothing and tokens of other lists are told", async () => {
  const { client, service } = await openPayments();
  const invalid = async (call: Promise<unknown>) => expect((await failureOf(call)).code).toBe(Code.InvalidArgument);
  await invalid(client.capture({ paymentId: "1" }, service));
  await invalid(client.void({ paymentId: "" }, service));
  await invalid(client.getPayment({ paymentId: "x" }, service));
  await invalid(client.refund({ paymentId: id, refundId: "x" }, service));
  await invalid(client.refund({ paymentId: id, refundId: id, amount: eur(0n) }, service));
  await invalid(client.listPayments({ pageSize: -1 }, service));
  await invalid(client.listPayments({ orderId: "x" }, service));
  for (const pageToken of ["x", "e30", Buffer.from('{"before":"1 OR 1"}').toString("base64url")])
    expect(await reasonOf(client.listPayments({ pageToken }, service))).toEqual([Code.InvalidArgument, "INVALID_PAGE_TOKEN"]);
  const notFound = [Code.NotFound, "PAYMENT_NOT_FOUND"];
  expect(await reasonOf(client.capture({ paymentId: id }, service))).toEqual(notFound);
  expect(await reasonOf(client.getPayment({ paymentId: id }, service))).toEqual(notFound);
  expect(await reasonOf(client.refund({ paymentId: id, refundId: id }, service))).toEqual(notFound);
});
