import type { ServiceImpl } from "@connectrpc/connect";
import { type CatalogService, ErrorReason, ProductOrder } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { fail } from "./errors.ts";
import { decodePageToken, encodePageToken } from "./page-token.ts";
import type { Store } from "./store.ts";

/** AIP-158: what is asked for beyond the most is cut, not refused. */
const pageSizes = { byDefault: 20, most: 100 };

export function createHandlers(store: Store): ServiceImpl<typeof CatalogService> {
  return {
    async listProducts({ pageSize, pageToken, categoryId: category, order: asked }) {
      const order = asked === ProductOrder.UNSPECIFIED ? ProductOrder.TITLE : asked;
      const after = pageToken === "" ? undefined : decodePageToken(pageToken, order, category);
      const size = Math.min(pageSize === 0 ? pageSizes.byDefault : pageSize, pageSizes.most);
      // One more than asked for tells whether there is a next page.
      const rows = await store.listProducts({ order, category, after, limit: size + 1 });
      const page = rows.slice(0, size);
      const last = rows.length > size ? page.at(-1) : undefined;
      const nextPageToken = last && encodePageToken({ order, category, key: last.key, productId: last.product.productId });
      return { products: page.map(({ product }) => product), nextPageToken: nextPageToken ?? "" };
    },

    async listCategories() {
      return { categories: await store.listCategories() };
    },

    async getProduct({ productId }) {
      const [product] = await store.listByIds([productId]);
      if (product === undefined) throw fail(ErrorReason.PRODUCT_NOT_FOUND, `there is no product ${productId}`, { productId });
      return { product };
    },

    async batchGetProducts({ productIds }) {
      const products = new Map((await store.listByIds(productIds)).map((product) => [product.productId, product]));
      return { products: [...new Set(productIds)].flatMap((productId) => products.get(productId) ?? []) };
    },
  };
}
