import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { type InventoryService, ReservationState } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { RejectReason } from "@parley/gen/parley/orders/v1/orders_pb.js";
import type { PaymentsService } from "@parley/gen/parley/payments/v1/payments_pb.js";
import type { Decision } from "./order.ts";
import type { HeldOrder } from "./store.ts";

export type Step = "reserve" | "authorize" | "commit" | "capture";
export type Compensation = "release" | "void" | "refund";

/** What a step, or a compensation, came to. Where a call says nothing of its outcome, it throws. */
export type Outcome = "done" | "refused" | "captured";

interface Entry {
  readonly step: Step;
  /** What undoes it. */
  readonly compensation: Compensation;
  /** The reasons with which the step may be refused, `FAILED_PRECONDITION`, and why the order is rejected then. All else is unknown. */
  readonly refusals: Readonly<Record<string, RejectReason>>;
  /** Why the order is rejected where the step came to nothing before the checkout's deadline. */
  readonly unavailable: RejectReason;
}

/** The checkout: what is done, in this order, and beside it what undoes it. Then the order is confirmed. */
export const checkout: readonly Entry[] = [
  {
    step: "reserve",
    compensation: "release",
    refusals: { OUT_OF_STOCK: RejectReason.OUT_OF_STOCK },
    unavailable: RejectReason.INVENTORY_UNAVAILABLE,
  },
  {
    step: "authorize",
    compensation: "void",
    refusals: { PAYMENT_DECLINED: RejectReason.PAYMENT_DECLINED, PAYMENT_VOIDED: RejectReason.PAYMENT_DECLINED },
    unavailable: RejectReason.PAYMENT_UNAVAILABLE,
  },
  {
    step: "commit",
    compensation: "release",
    refusals: { RESERVATION_ENDED: RejectReason.OUT_OF_STOCK },
    unavailable: RejectReason.INVENTORY_UNAVAILABLE,
  },
  {
    step: "capture",
    compensation: "refund",
    refusals: { PAYMENT_DECLINED: RejectReason.PAYMENT_DECLINED, PAYMENT_VOIDED: RejectReason.PAYMENT_DECLINED },
    unavailable: RejectReason.PAYMENT_UNAVAILABLE,
  },
];

/** Where the checkout begins, and begins again. */
export const first = { forward: "reserve", undo: "release" } as const;

/**
 * Returns what follows an outcome: the next step, or what is decided. Undoing runs whole, whatever was
 * reached, for each compensation succeeds where nothing is left to undo. What was captured cannot
 * be voided; only then it is refunded.
 */
export function after(at: Step | Compensation, outcome: Outcome): Step | Compensation | Decision {
  switch (at) {
    case "release":
      return "void";
    case "void":
      return outcome === "captured" ? "refund" : "undone";
    case "refund":
      return "undone";
    default: {
      const index = checkout.findIndex(({ step }) => step === at);
      return outcome === "done" ? (checkout[index + 1]?.step ?? "confirm") : "reject";
    }
  }
}

/** Whether a reservation keeps what it is for. */
export function isKept(state: ReservationState | undefined): boolean {
  return state === ReservationState.HELD || state === ReservationState.COMMITTED;
}

/** How a step, or a compensation, went; and where the order is rejected for it, why. */
export interface Result {
  readonly outcome: Outcome;
  readonly reason?: RejectReason;
}

/** Does the steps and compensations of the checkout: each is safe to repeat, by the order's id. */
export type Perform = (at: Step | Compensation, order: HeldOrder, options: CallOptions) => Promise<Result>;

export function createPerform({
  inventory,
  payments,
  holdMs,
}: {
  readonly inventory: Client<typeof InventoryService>;
  readonly payments: Client<typeof PaymentsService>;
  /** How long stock is kept for an order that nobody works on any more. */
  readonly holdMs: number;
}): Perform {
  const calls: Readonly<Record<Step | Compensation, (order: HeldOrder, options: CallOptions) => Promise<unknown>>> = {
    reserve: async ({ orderId, lines }, options) => {
      const quantities = lines.map(({ productId, quantity }) => ({ productId, quantity: BigInt(quantity) }));
      const { reservation } = await inventory.reserve({ reservationId: orderId, lines: quantities, hold: durationFromMs(holdMs) }, options);
      if (!isKept(reservation?.state)) throw new OutOfStock();
    },
    authorize: ({ orderId, customerId, total, paymentToken }, options) =>
      payments.authorize({ paymentId: orderId, orderId, customerId, amount: total, paymentToken }, options),
    commit: ({ orderId }, options) => inventory.commitReservation({ reservationId: orderId }, options),
    capture: ({ orderId }, options) => payments.capture({ paymentId: orderId }, options),
    release: ({ orderId }, options) => inventory.releaseReservation({ reservationId: orderId }, options),
    void: ({ orderId }, options) => payments.void({ paymentId: orderId }, options),
    refund: ({ orderId }, options) => payments.refund({ paymentId: orderId, refundId: orderId }, options), // what is left
  };

  return async (at, order, options) => {
    try {
      await calls[at](order, options);
      return { outcome: "done" };
    } catch (error) {
      const refusal = refusalOf(error);
      if (at === "void" && refusal === "PAYMENT_CAPTURED") return { outcome: "captured" };
      const reason = checkout.find(({ step }) => step === at)?.refusals[refusal];
      if (reason === undefined) throw error;
      return { outcome: "refused", reason };
    }
  };
}

/** A reservation that keeps nothing is an answer, not an error. */
class OutOfStock extends Error {
  override name = "OutOfStock";
}

/** Returns the reason of an error that says that nothing was done; empty for others. */
function refusalOf(error: unknown): string {
  if (error instanceof OutOfStock) return "OUT_OF_STOCK";
  if (!(error instanceof ConnectError) || error.code !== Code.FailedPrecondition) return "";
  return error.findDetails(ErrorInfoSchema)[0]?.reason ?? "";
}
