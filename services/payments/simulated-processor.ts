import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { openDatabase } from "@parley/chassis/data/database.ts";
import { fail } from "@parley/chassis/rpc/errors.ts";
import type { Stoppable } from "@parley/chassis/service.ts";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { DeclineReason } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { type Kysely, sql, type Transaction } from "kysely";
import type { PaymentProcessor, ProcessorRequest } from "./processor.ts";

/** What a token of the simulated processor stands for. */
interface Card {
  readonly declines?: DeclineReason;
  /** How long an authorization takes, in milliseconds. */
  readonly slowMs?: number;
  /** The first request of each key is done, and never answered. */
  readonly timesOut?: true;
  /** So many requests of each key fail before one is done. */
  readonly failures?: number;
}

/** The tokens that the simulated processor knows; any other is declined as UNKNOWN_TOKEN. */
export const testTokens: Readonly<Record<string, Card>> = {
  tok_approved: {},
  tok_declined: { declines: DeclineReason.GENERIC },
  tok_insufficient_funds: { declines: DeclineReason.INSUFFICIENT_FUNDS },
  tok_expired_card: { declines: DeclineReason.EXPIRED_CARD },
  tok_lost_card: { declines: DeclineReason.LOST_CARD },
  tok_stolen_card: { declines: DeclineReason.STOLEN_CARD },
  tok_incorrect_cvc: { declines: DeclineReason.INCORRECT_CVC },
  tok_suspected_fraud: { declines: DeclineReason.SUSPECTED_FRAUD },
  tok_slow: { slowMs: 2_000 },
  tok_times_out: { timesOut: true },
  tok_fails_then_works: { failures: 2 },
};

/** Connections that the simulated processor opens at most. */
export const simulatedProcessorConnections = 5;
const options = {
  name: "payment-processor",
  poolSize: simulatedProcessorConnections,
  connectTimeoutMs: 5_000,
  statementTimeoutMs: 5_000,
  idleInTransactionTimeoutMs: 5_000,
};

interface Tables {
  "processor.charge": {
    charge_id: string;
    token: string;
    state: "AUTHORIZED" | "DECLINED" | "CAPTURED" | "VOIDED";
    amount: bigint;
    currency_code: string;
    refunded: bigint;
  };
}

/** What was asked for under a key, and what came of it. */
interface Recorded {
  readonly token: string;
  readonly attempts: number;
  readonly outcome: string | null;
  readonly charge_id: string;
}

/**
 * Opens a processor for tests and trials. It keeps its own record, in the schema `processor` over
 * connections of its own: it can disagree with payments as a real one can.
 */
export function openSimulatedProcessor(url: string): PaymentProcessor & Stoppable {
  const database = openDatabase<Tables>({ url, ...options });

  /**
   * Does what was asked for under a key once, whoever asks at once; `act` returns the outcome. The
   * faults of the charge's card come before and after.
   */
  async function doOnce(
    request: ProcessorRequest & { readonly token?: string; readonly chargeId?: string },
    operation: string,
    act: (tx: Transaction<Tables>, recorded: Recorded) => Promise<string>,
  ): Promise<Recorded & { readonly outcome: string }> {
    const { key, signal, token, chargeId } = request;
    const recorded = await database.transaction(async (tx) => {
      const { rows } = await sql<Recorded>`
        INSERT INTO processor.request (key, operation, charge_id, token)
        VALUES (${key}, ${operation}, coalesce(${chargeId ?? null}::uuid, gen_random_uuid()),
          coalesce(${token ?? null}, (SELECT token FROM processor.charge WHERE charge_id = ${chargeId ?? null}::uuid)))
        ON CONFLICT (key) DO UPDATE SET attempts = request.attempts + 1
        WHERE request.operation = excluded.operation AND request.token = excluded.token
        RETURNING token, attempts, outcome, charge_id`.execute(tx);
      const [row] = rows;
      if (row === undefined) throw new Error(`the processor knows the key ${key} from another request`);
      if (row.outcome !== null || row.attempts <= (testTokens[row.token]?.failures ?? 0)) return row;
      const outcome = await act(tx, row);
      await sql`UPDATE processor.request SET outcome = ${outcome} WHERE key = ${key}`.execute(tx);
      return { ...row, outcome };
    });
    if (testTokens[recorded.token]?.timesOut && recorded.attempts === 1) {
      if (!signal.aborted) await once(signal, "abort");
      throw noAnswer();
    }
    if (recorded.outcome === null) throw noAnswer();
    return { ...recorded, outcome: recorded.outcome };
  }

  return {
    async authorize(request) {
      const card = testTokens[request.token];
      if (card?.slowMs !== undefined) {
        await delay(card.slowMs, undefined, { signal: request.signal }).catch(() => {
          throw noAnswer();
        });
      }
      const reason = card === undefined ? DeclineReason.UNKNOWN_TOKEN : card.declines;
      const { outcome, charge_id: chargeId } = await doOnce(request, "authorize", async (tx, recorded) => {
        await tx
          .insertInto("processor.charge")
          .values({
            charge_id: recorded.charge_id,
            token: request.token,
            state: reason === undefined ? "AUTHORIZED" : "DECLINED",
            amount: request.amount.minorUnits,
            currency_code: request.amount.currencyCode,
            refunded: 0n,
          })
          .execute();
        return reason === undefined ? "authorized" : "declined";
      });
      return outcome === "declined" ? { outcome, chargeId, reason: reason ?? DeclineReason.GENERIC } : { outcome: "authorized", chargeId };
    },

    async capture(request) {
      const { outcome } = await doOnce(request, "capture", (tx) => endAuthorization(tx, request.chargeId, "CAPTURED"));
      return { outcome: outcome === "captured" ? "captured" : "voided" };
    },

    async void(request) {
      const { outcome } = await doOnce(request, "void", (tx) => endAuthorization(tx, request.chargeId, "VOIDED"));
      return { outcome: outcome === "captured" ? "captured" : "voided" };
    },

    async refund(request) {
      await doOnce(request, "refund", async (tx) => {
        const { numUpdatedRows } = await tx
          .updateTable("processor.charge")
          .set({ refunded: sql`refunded + ${request.amount.minorUnits}` })
          .where("charge_id", "=", request.chargeId)
          .where("state", "=", "CAPTURED")
          .executeTakeFirst();
        if (numUpdatedRows !== 1n) throw new Error(`the processor has nothing to refund of ${request.chargeId}`);
        return "refunded";
      });
    },

    stop: () => database.close(),
  };
}

function noAnswer(): Error {
  return fail(
    ErrorReason.NEIGHBOUR_UNAVAILABLE,
    "the payment processor does not answer; whether it was done is not known: repeat the call later",
  );
}

/** Takes or gives up what is kept, where that was not decided before; returns what was. */
async function endAuthorization(db: Kysely<Tables>, chargeId: string, to: "CAPTURED" | "VOIDED"): Promise<"captured" | "voided"> {
  const charge = await db
    .updateTable("processor.charge")
    .set((of) => ({ state: sql<"CAPTURED" | "VOIDED">`CASE ${of.ref("state")} WHEN 'AUTHORIZED' THEN ${to} ELSE ${of.ref("state")} END` }))
    .where("charge_id", "=", chargeId)
    .returning("state")
    .executeTakeFirstOrThrow();
  return charge.state === "CAPTURED" ? "captured" : "voided";
}
