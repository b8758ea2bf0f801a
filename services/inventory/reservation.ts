import type { ReservationState } from "@parley/gen/parley/inventory/v1/inventory_pb.js";

export interface Line {
  readonly productId: string;
  readonly quantity: bigint;
}

export type State = Exclude<keyof typeof ReservationState, "UNSPECIFIED">;

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
