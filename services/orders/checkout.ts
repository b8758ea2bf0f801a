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

/** How much longer stock is kept than an order may be pending: reservations expire only where nobody works on them. */
const holdBeyondMs = 5 * 60_000;

/** The checkout: what is done, in this order, and beside it what undoes it. Then the order is confirmed. */
export const checkout: readonly Entry[] = [
  {
    step: "reserve",
    compensation: "release",
    refusals: {}, // it answers what it could not keep
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
 * What undoes the checkout, in order, from the top whatever was reached: each succeeds where nothing is
 * left to undo. It ends at the void where nothing was captured.
 */
const undoing: readonly (Step | Compensation)[] = [...new Set(checkout.map(({ compensation }) => compensation))];

/** Returns what follows an outcome: the next step or compensation, or what is decided. */
export function nextAfter(at: Step | Compensation, outcome: Outcome): Step | Compensation | Decision {
  const index = checkout.findIndex(({ step }) => step === at);
  if (index >= 0) return outcome === "done" ? (checkout[index + 1]?.step ?? "confirm") : "reject";
  if (at === "void" && outcome === "done") return "finish"; // nothing was captured that could be refunded
  return undoing[undoing.indexOf(at) + 1] ?? "finish";
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
  timeoutMs,
}: {
  readonly inventory: Client<typeof InventoryService>;
  readonly payments: Client<typeof PaymentsService>;
  /** How long an order may be pending. */
  readonly timeoutMs: number;
}): Perform {
  const hold = durationFromMs(timeoutMs + holdBeyondMs);
  const calls: Readonly<Record<Step | Compensation, (order: HeldOrder, options: CallOptions) => Promise<Result>>> = {
    reserve: async ({ orderId, lines }, options) => {
      const quantities = lines.map(({ productId, quantity }) => ({ productId, quantity: BigInt(quantity) }));
      const { reservation } = await inventory.reserve({ reservationId: orderId, lines: quantities, hold }, options);
      return isKept(reservation?.state) ? { outcome: "done" } : { outcome: "refused", reason: RejectReason.OUT_OF_STOCK };
    },
    authorize: ({ orderId, customerId, total, paymentToken }, options) =>
      whenDone(payments.authorize({ paymentId: orderId, orderId, customerId, amount: total, paymentToken }, options)),
    commit: ({ orderId }, options) => whenDone(inventory.commitReservation({ reservationId: orderId }, options)),
    capture: ({ orderId }, options) => whenDone(payments.capture({ paymentId: orderId }, options)),
    release: ({ orderId }, options) => whenDone(inventory.releaseReservation({ reservationId: orderId }, options)),
    void: ({ orderId }, options) => whenDone(payments.void({ paymentId: orderId }, options)),
    refund: ({ orderId }, options) => whenDone(payments.refund({ paymentId: orderId, refundId: orderId }, options)), // what is left
  };

  return async (at, order, options) => {
    try {
      return await calls[at](order, options);
    } catch (error) {
      const refusal = refusalOf(error);
      if (at === "void" && refusal === "PAYMENT_CAPTURED") return { outcome: "captured" };
      const reason = checkout.find(({ step }) => step === at)?.refusals[refusal];
      if (reason === undefined) throw error;
      return { outcome: "refused", reason };
    }
  };
}

async function whenDone(call: Promise<unknown>): Promise<Result> {
  await call;
  return { outcome: "done" };
}

/** Returns the reason of an error that says that nothing was done; empty for others. */
function refusalOf(error: unknown): string {
  if (!(error instanceof ConnectError) || error.code !== Code.FailedPrecondition) return "";
  return error.findDetails(ErrorInfoSchema)[0]?.reason ?? "";
}
