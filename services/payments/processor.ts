import type { DeclineReason } from "@parley/gen/parley/payments/v1/payments_pb.js";

export interface Money {
  readonly currencyCode: string;
  readonly minorUnits: bigint;
}

/** What every request to a processor carries. */
export interface ProcessorRequest {
  /** Tells this request from others: however often it is sent, it happens once, and a repeat gets the first answer. */
  readonly key: string;
  /** Fires when the time for an answer is over; that says nothing of the outcome. */
  readonly signal: AbortSignal;
}

/**
 * Who moves the money. Each method rejects with `UNAVAILABLE` where the outcome is not known, because
 * the processor cannot be reached or does not answer in time: then the request is sent again, with its key.
 */
export interface PaymentProcessor {
  /** Keeps an amount on the card that the token stands for. */
  authorize(
    request: ProcessorRequest & { readonly token: string; readonly amount: Money },
  ): Promise<
    | { readonly outcome: "authorized"; readonly chargeId: string }
    | { readonly outcome: "declined"; readonly chargeId: string; readonly reason: DeclineReason }
  >;
  /** Takes what is kept; `voided` where it was given up before. */
  capture(request: ProcessorRequest & { readonly chargeId: string }): Promise<{ readonly outcome: "captured" | "voided" }>;
  /** Gives up what is kept; `captured` where it was taken before. */
  void(request: ProcessorRequest & { readonly chargeId: string }): Promise<{ readonly outcome: "captured" | "voided" }>;
  /** Gives back what was taken, or a part of it. */
  refund(request: ProcessorRequest & { readonly chargeId: string; readonly amount: Money }): Promise<void>;
}
