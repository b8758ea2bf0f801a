import { ErrorReason, type Product } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { fail } from "./errors.ts";

type Content = Pick<Product, "title" | "description" | "price" | "categories" | "imagePath">;
type ContentInit = {
  readonly [Field in Exclude<keyof Content, "price">]?: Content[Field] | undefined;
} & { readonly price?: { currencyCode?: string; minorUnits?: bigint } | undefined };

/** The columns of a product that change. */
export interface Changes {
  title?: string;
  description?: string;
  price_minor_units?: bigint;
  currency_code?: string;
  categories?: string[];
  image_path?: string;
  archived?: boolean;
}

/** Returns what an update changes: the fields of its mask or, without one, those that are set (AIP-134). */
export function changesOf(product: Content, paths: readonly string[]): Changes {
  const isIn = (path: string, isSet: boolean): boolean => (paths.length === 0 ? isSet : paths.includes(path));
  return {
    ...(isIn("title", product.title !== "") && { title: product.title }),
    ...(isIn("description", product.description !== "") && { description: product.description }),
    ...(isIn("price", product.price !== undefined) &&
      product.price && { price_minor_units: product.price.minorUnits, currency_code: product.price.currencyCode }),
    ...(isIn("categories", product.categories.length > 0) && { categories: product.categories }),
    ...(isIn("image_path", product.imagePath !== "") && { image_path: product.imagePath }),
  };
}

/** Whether a product has the contents that are asked for: then the request to create it was sent twice. */
export function isSameProduct(existing: ContentInit, given: Content): boolean {
  return (
    existing.title === given.title &&
    existing.description === given.description &&
    existing.imagePath === given.imagePath &&
    existing.price?.currencyCode === given.price?.currencyCode &&
    existing.price?.minorUnits === given.price?.minorUnits &&
    JSON.stringify(existing.categories) === JSON.stringify(given.categories)
  );
}

/** Throws `ETAG_MISMATCH` where an etag is given that is not the product's. */
export function assertEtag(product: { productId: string; etag?: string }, given: string): void {
  if (given === "" || given === product.etag) return;
  throw fail(ErrorReason.ETAG_MISMATCH, `${product.productId} was changed meanwhile: get it, and change it again`, {
    etag: product.etag ?? "",
  });
}
