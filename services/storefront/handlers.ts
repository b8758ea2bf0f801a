import { type Client, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { fanOut, type Part } from "@parley/chassis/rpc/fan-out.ts";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { ErrorReason as CatalogErrorReason, type CatalogService } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import type { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import type { InventoryService } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { ErrorReason, PagePart, type StorefrontService } from "@parley/gen/parley/storefront/v1/storefront_pb.js";
import type { Logger } from "pino";
import { fail } from "./errors.ts";

/** How many products a page shows beside what it is about. */
const pageSize = 8;

export function createHandlers({
  greeter,
  catalog,
  inventory,
  log,
}: {
  greeter: Client<typeof GreeterService>;
  catalog: Client<typeof CatalogService>;
  inventory: Client<typeof InventoryService>;
  log: Logger;
}): ServiceImpl<typeof StorefrontService> {
  /** Names the parts that did not come, and says why in the log. */
  function missing(parts: readonly [PagePart, Part<unknown>][]): PagePart[] {
    return parts.flatMap(([part, { error }]) => {
      if (error === undefined) return [];
      log.warn({ err: error, part: PagePart[part] }, "a part of a page is missing");
      return part;
    });
  }

  return {
    async getHomePage() {
      const { greeting, categories, products } = await fanOut({
        greeting: (options) => greeter.hello({}, options),
        categories: (options) => catalog.listCategories({}, options),
        products: (options) => catalog.listProducts({ pageSize }, options),
      });
      return {
        greeting: greeting.value?.message ?? "",
        categories: categories.value?.categories ?? [],
        products: products.value?.products ?? [],
        missingParts: missing([
          [PagePart.GREETING, greeting],
          [PagePart.CATEGORIES, categories],
          [PagePart.PRODUCTS, products],
        ]),
      };
    },

    async getProductPage({ productId }) {
      const { product, stock, related } = await fanOut({
        product: (options) => catalog.getProduct({ productId }, options),
        stock: (options) => inventory.batchGetStock({ productIds: [productId] }, options),
        related: (options) => catalog.listRelatedProducts({ productId, pageSize }, options),
      });
      if (isNotFound(product.error)) throw fail(ErrorReason.PRODUCT_NOT_FOUND, `there is no product ${productId}`, { productId });
      return {
        ...(product.value?.product && { product: product.value.product }),
        ...(stock.value?.stock[0] && { stock: stock.value.stock[0] }),
        relatedProducts: related.value?.products ?? [],
        missingParts: missing([
          [PagePart.PRODUCT, product],
          [PagePart.STOCK, stock],
          [PagePart.RELATED_PRODUCTS, related],
        ]),
      };
    },
  };
}

/** Whether the catalog says that there is no such product. */
function isNotFound(error: unknown): boolean {
  const reason = CatalogErrorReason[CatalogErrorReason.PRODUCT_NOT_FOUND];
  return error instanceof ConnectError && error.findDetails(ErrorInfoSchema).some((info) => info.reason === reason);
}
