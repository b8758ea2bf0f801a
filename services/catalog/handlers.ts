import type { ServiceImpl } from "@connectrpc/connect";
import type { Database } from "@parley/chassis/data/database.ts";
import type { EventLog } from "@parley/chassis/data/event-log.ts";
import { detach } from "@parley/chassis/rpc/current-call.ts";
import { encodePageToken, pageSizeOf } from "@parley/chassis/rpc/page.ts";
import {
  type CatalogService,
  ErrorReason,
  ProductArchivedSchema,
  ProductCreatedSchema,
  ProductOrder,
  ProductState,
  ProductUpdatedSchema,
} from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { fail } from "./errors.ts";
import { decodeListToken, decodeSearchToken } from "./page-token.ts";
import { assertEtag, changesOf, isSameProduct } from "./product.ts";
import { createStore, mostRanked, type Store, type Tables } from "./store.ts";

/** Words of a query that count. */
const mostWords = 10;
/** How long the categories are kept: to count them all products are read, and every home page asks. */
const categoriesMs = 1_000;

export function createHandlers({
  database,
  eventLog,
}: {
  database: Database<Tables>;
  eventLog: EventLog;
}): ServiceImpl<typeof CatalogService> {
  const store = createStore(database.db);
  let categories: ReturnType<Store["listCategories"]> = Promise.resolve([]);
  let categoriesUntilMs = 0;
  return {
    async listProducts({ pageSize, pageToken, categoryId: category, order: asked }) {
      const order = asked === ProductOrder.UNSPECIFIED ? ProductOrder.TITLE : asked;
      const after = pageToken === "" ? undefined : decodeListToken(pageToken, { order, category, isNumeric: order !== ProductOrder.TITLE });
      const size = pageSizeOf(pageSize);
      // One more than asked for tells whether there is a next page.
      const rows = await store.listProducts({ order, category, after, limit: size + 1 });
      const page = rows.slice(0, size);
      const last = rows.length > size ? page.at(-1) : undefined;
      const nextPageToken = last && encodePageToken({ order, category, key: last.key, productId: last.product.productId });
      return { products: page.map(({ product }) => product), nextPageToken: nextPageToken ?? "" };
    },

    async listCategories() {
      if (performance.now() > categoriesUntilMs) {
        categoriesUntilMs = performance.now() + categoriesMs;
        categories = detach(() => store.listCategories());
        categories.catch(() => {
          categoriesUntilMs = 0;
        });
      }
      return { categories: await categories };
    },

    async getProduct({ productId }) {
      const [product] = await store.listByIds([productId]);
      if (product === undefined) throw notFound(productId);
      return { product };
    },

    async batchGetProducts({ productIds }) {
      const products = new Map((await store.listByIds(productIds)).map((product) => [product.productId, product]));
      return { products: [...new Set(productIds)].flatMap((productId) => products.get(productId) ?? []) };
    },

    async searchProducts({ query, pageSize, pageToken }) {
      const { offset, isSimilar: isAsSimilar } = pageToken === "" ? { offset: 0, isSimilar: false } : decodeSearchToken(pageToken, query);
      const size = Math.min(pageSizeOf(pageSize), mostRanked - offset);
      const page = { offset, limit: size + 1 };
      const words = wordsOf(query);
      const found = isAsSimilar ? [] : await store.search({ words, ...page });
      const isSimilar = isAsSimilar || (offset === 0 && found.length === 0);
      const products = isSimilar ? await store.search({ words: await store.correctWords(words), ...page }) : found;
      const next = offset + size;
      const hasNext = products.length > size && next < mostRanked;
      return {
        products: products.slice(0, size),
        nextPageToken: hasNext ? encodePageToken({ query, offset: next, isSimilar }) : "",
        isSimilar: isSimilar && products.length > 0,
      };
    },

    async listRelatedProducts({ productId, pageSize }) {
      return { products: await store.listRelated(productId, pageSizeOf(pageSize)) };
    },

    async createProduct({ product: given }) {
      if (given === undefined) throw new Error("validation lets no request without a product through");
      return database.transaction(async (tx) => {
        const inTx = createStore(tx);
        const [product] = await inTx.insertAll([given]);
        if (product === undefined) {
          const [existing] = await inTx.listByIds([given.productId]);
          if (existing !== undefined && isSameProduct(existing, given)) return { product: existing };
          throw fail(ErrorReason.PRODUCT_EXISTS, `there is another product ${given.productId}: choose another id`, {
            productId: given.productId,
          });
        }
        await eventLog.append(tx, ProductCreatedSchema, [{ subject: product.productId, payload: { product } }]);
        return { product };
      });
    },

    async updateProduct({ product: given, updateMask }) {
      if (given === undefined) throw new Error("validation lets no request without a product through");
      const { productId, etag } = given;
      return database.transaction(async (tx) => {
        const inTx = createStore(tx);
        const before = await inTx.lock(productId);
        if (before === undefined) throw notFound(productId);
        assertEtag(before, etag);
        if (before.state === ProductState.ARCHIVED)
          throw fail(ErrorReason.PRODUCT_IS_ARCHIVED, `${productId} is archived, and changes no more`, { productId });
        const changes = changesOf(given, updateMask?.paths ?? []);
        if (Object.keys(changes).length === 0) return { product: before };
        const product = await inTx.update(productId, changes);
        await eventLog.append(tx, ProductUpdatedSchema, [{ subject: productId, payload: { product } }]);
        return { product };
      });
    },

    async archiveProduct({ productId, etag }) {
      return database.transaction(async (tx) => {
        const inTx = createStore(tx);
        const before = await inTx.lock(productId);
        if (before === undefined) throw notFound(productId);
        if (before.state === ProductState.ARCHIVED) return { product: before };
        assertEtag(before, etag);
        const product = await inTx.update(productId, { archived: true });
        await eventLog.append(tx, ProductArchivedSchema, [{ subject: productId, payload: { product } }]);
        return { product };
      });
    },
  };
}

function wordsOf(query: string): string[] {
  return (query.match(/[\p{L}\p{N}]+/gu) ?? []).slice(0, mostWords);
}

function notFound(productId: string): Error {
  return fail(ErrorReason.PRODUCT_NOT_FOUND, `there is no product ${productId}`, { productId });
}
