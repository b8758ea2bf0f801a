import { ReservationState as State } from "@parley/gen/parley/inventory/v1/inventory_pb.js";

export interface Line {
  readonly productId: string;
  readonly quantity: bigint;
}

/** What becomes of a reservation, and how often its quantities are added to what is on hand and to what is reserved. */
export interface Change {
  readonly to: State;
  readonly onHand: -1 | 0 | 1;
  readonly reserved: -1 | 0 | 1;
}

export type Operation = "reserve" | "commit" | "release" | "expire";

/** The state of an id that was never seen. */
export const unseen = State.UNSPECIFIED;

/**
 * What each operation makes of a reservation, by its state. Where nothing is said, it stays as it
 * is. A `reserve` for which there is too little makes it `REFUSED` instead.
 */
const changes: Readonly<Record<Operation, Readonly<Partial<Record<State, Change>>>>> = {
  reserve: { [unseen]: { to: State.HELD, onHand: 0, reserved: 1 } },
  commit: { [State.HELD]: { to: State.COMMITTED, onHand: -1, reserved: -1 } },
  release: {
    [unseen]: { to: State.RELEASED, onHand: 0, reserved: 0 }, // a tombstone: a reserve that comes later keeps nothing
    [State.HELD]: { to: State.RELEASED, onHand: 0, reserved: -1 },
    [State.COMMITTED]: { to: State.RELEASED, onHand: 1, reserved: 0 },
  },
  expire: { [State.HELD]: { to: State.EXPIRED, onHand: 0, reserved: -1 } },
};

/** Returns what an operation makes of a reservation in that state; undefined: nothing. */
export function findChange(operation: Operation, state: State): Change | undefined {
  return changes[operation][state];
}

/** Sums the quantities of lines with the same product, and orders lines by product, in which order all lock them. */
export function linesByProduct(lines: readonly Line[]): Line[] {
  const sums = new Map<string, bigint>();
  for (const { productId, quantity } of lines) sums.set(productId, (sums.get(productId) ?? 0n) + quantity);
  return [...sums].map(([productId, quantity]) => ({ productId, quantity })).toSorted((a, b) => (a.productId < b.productId ? -1 : 1));
}

/** Whether a reservation is for these lines; one that was released before it was seen is for any. */
export function isFor(reservation: { readonly lines: readonly Line[] }, lines: readonly Line[]): boolean {
  const textOf = (of: readonly Line[]): string => of.map(({ productId, quantity }) => `${productId}=${quantity}`).join();
  return reservation.lines.length === 0 || textOf(reservation.lines) === textOf(lines);
}
