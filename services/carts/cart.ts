import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type CartSchema, ErrorReason } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { type Product, ProductState } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { fail } from "./errors.ts";
import type { StoredCart, StoredLine, StoredRequest } from "./store.ts";

const limits = { lines: 100, ofProduct: 99 };

type Money = StoredLine["priceWhenAdded"];
type Sold = Product & { price: NonNullable<Product["price"]> };

/** Returns a product that can be bought. Throws `PRODUCT_NOT_FOUND` and `PRODUCT_IS_ARCHIVED`. */
export function assertSold(product: Product | undefined, productId: string): Sold {
  if (product === undefined) throw fail(ErrorReason.PRODUCT_NOT_FOUND, `there is no product ${productId}`, { productId });
  if (!isSold(product)) throw fail(ErrorReason.PRODUCT_IS_ARCHIVED, `${productId} is sold no more`, { productId });
  return product;
}

/** Throws `TOO_MANY_OF_PRODUCT` and, where it would be one line more than there are, `TOO_MANY_LINES`. */
export function assertRoom({ productId, quantity }: StoredLine, otherLines: number): void {
  if (quantity > limits.ofProduct)
    throw fail(ErrorReason.TOO_MANY_OF_PRODUCT, `a cart holds at most ${limits.ofProduct} of a product`, { productId });
  if (otherLines >= limits.lines) throw fail(ErrorReason.TOO_MANY_LINES, `a cart has at most ${limits.lines} lines: remove one first`);
}

/** Throws `REQUEST_MISMATCH` where a request's id was used for another one. */
export function assertSameRequest(before: StoredRequest, request: StoredRequest): void {
  if (before.productId === request.productId && before.quantity === request.quantity) return;
  throw fail(ErrorReason.REQUEST_MISMATCH, "request_id was used with other contents before: choose another one");
}

/** Throws `ETAG_MISMATCH` where an etag is given that is not the cart's. */
export function assertEtag(etag: string, given: string): void {
  if (given !== "" && given !== etag)
    throw fail(ErrorReason.ETAG_MISMATCH, "the cart was changed meanwhile: get it, and change it again", { etag });
}

/** Composes a cart of what is stored and what the catalog says now. */
export function priceCart(
  customerId: string,
  { etag, updateTime, lines }: StoredCart,
  products: readonly Product[],
): MessageInitShape<typeof CartSchema> {
  const byId = new Map(products.map((product) => [product.productId, product]));
  const priced = lines.map((line) => {
    const product = byId.get(line.productId);
    const price = product?.price ?? line.priceWhenAdded;
    const isPriceChanged = price.minorUnits !== line.priceWhenAdded.minorUnits || price.currencyCode !== line.priceWhenAdded.currencyCode;
    return { ...line, title: product?.title ?? "", price, isPriceChanged, isAvailable: product !== undefined && isSold(product) };
  });
  const total = totalOf(priced.filter(({ isAvailable }) => isAvailable));
  return { customerId, lines: priced, etag, ...(total && { total }), ...(updateTime && { updateTime: timestampFromDate(updateTime) }) };
}

function isSold(product: Product): product is Sold {
  return product.state === ProductState.ACTIVE && product.price !== undefined;
}

/** Returns undefined for nothing, and for several currencies. */
function totalOf(lines: readonly { readonly price: Money; readonly quantity: number }[]): Money | undefined {
  const [first] = lines;
  if (first === undefined || lines.some(({ price }) => price.currencyCode !== first.price.currencyCode)) return undefined;
  const minorUnits = lines.reduce((sum, { price, quantity }) => sum + price.minorUnits * BigInt(quantity), 0n);
  return { currencyCode: first.price.currencyCode, minorUnits };
}
