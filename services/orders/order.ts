import { createHash } from "node:crypto";
import type { Cart } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { type Product, ProductState } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { ErrorReason, type PlaceOrderRequest, OrderState as State } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { fail } from "./errors.ts";

/** What is decided of an order: each is written down before it is acted upon. */
export type Decision = "confirm" | "reject" | "cancel" | "ship" | "finish";

/** What each decision makes of an order, by its state: where nothing is said, it may not be decided. The database holds to it too. */
const decisions: Readonly<Record<Decision, Readonly<Partial<Record<State, State>>>>> = {
  confirm: { [State.PENDING]: State.CONFIRMED },
  reject: { [State.PENDING]: State.REJECTING },
  cancel: { [State.PENDING]: State.CANCELLING, [State.CONFIRMED]: State.CANCELLING },
  ship: { [State.CONFIRMED]: State.SHIPPED },
  finish: { [State.REJECTING]: State.REJECTED, [State.CANCELLING]: State.CANCELLED },
};

/** Returns the state that an order comes to by a decision; undefined: it may not be decided. */
export function findNext(decision: Decision, state: State): State | undefined {
  return decisions[decision][state];
}

/** What is taken for a stuck order where nobody says otherwise: the checkout has worked on it for so long, or so often. */
export const stuckByDefault = { minAgeMs: 60_000, minAttempts: 10 };

/** Whether an order changes no more. */
export function isFinal(state: State): boolean {
  return state === State.SHIPPED || state === State.REJECTED || state === State.CANCELLED;
}

/** Whether what was taken for an order goes back. */
export function isUndoing(state: State): boolean {
  return state === State.REJECTING || state === State.CANCELLING;
}

/** Whether the checkout has something left to do for an order. */
export function isOpen(state: State): boolean {
  return state === State.PENDING || isUndoing(state);
}

export interface Line {
  readonly productId: string;
  readonly title: string;
  readonly quantity: number;
  readonly price: Money;
}

interface Money {
  readonly currencyCode: string;
  readonly minorUnits: bigint;
}

/** Returns the lines of a cart at the prices of now. Throws `CART_EMPTY`, `PRODUCT_UNAVAILABLE` and `MIXED_CURRENCIES`. */
export function priceLines(cart: Pick<Cart, "lines">, products: readonly Product[]): { lines: Line[]; total: Money } {
  const byId = new Map(products.map((product) => [product.productId, product]));
  const lines = cart.lines.map(({ productId, quantity }) => {
    const product = byId.get(productId);
    if (product?.price === undefined || product.state !== ProductState.ACTIVE)
      throw fail(ErrorReason.PRODUCT_UNAVAILABLE, `${productId} is sold no more: remove it from the cart`, { productId });
    return { productId, title: product.title, quantity, price: product.price };
  });
  const [first] = lines;
  if (first === undefined) throw fail(ErrorReason.CART_EMPTY, "there is nothing in the cart");
  const { currencyCode } = first.price;
  if (lines.some(({ price }) => price.currencyCode !== currencyCode))
    throw fail(ErrorReason.MIXED_CURRENCIES, "the products are sold in several currencies: order them apart");
  const minorUnits = lines.reduce((sum, { price, quantity }) => sum + price.minorUnits * BigInt(quantity), 0n);
  return { lines, total: { currencyCode, minorUnits } };
}

/** Throws `CART_CHANGED` where the cart is not the one that was meant. */
export function assertCart({ etag }: Pick<Cart, "etag">, given: string): void {
  if (etag === given) return;
  throw fail(ErrorReason.CART_CHANGED, "the cart was changed meanwhile: show it, and order again", { etag });
}

/** Throws `PRICE_CHANGED` where the total is not what the customer was shown. */
export function assertTotal({ currencyCode, minorUnits }: Money, expected: Money | undefined): void {
  if (currencyCode === expected?.currencyCode && minorUnits === expected.minorUnits) return;
  const totalMinorUnits = String(minorUnits);
  throw fail(
    ErrorReason.PRICE_CHANGED,
    `the total is ${totalMinorUnits} ${currencyCode} minor units, not what was expected: show it, and order again with it`,
    {
      totalMinorUnits,
      currencyCode,
    },
  );
}

/** Tells the contents of requests apart, without keeping them. */
export function hashOf({ cartEtag, shippingAddress: to, paymentToken, expectedTotal }: PlaceOrderRequest): string {
  const address = to && [to.name, to.street, to.postalCode, to.city, to.countryCode, to.email];
  const contents = [cartEtag, address, paymentToken, expectedTotal?.currencyCode, String(expectedTotal?.minorUnits)];
  return createHash("sha256").update(JSON.stringify(contents)).digest("hex");
}
