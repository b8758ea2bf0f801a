import type { Client, ServiceImpl } from "@connectrpc/connect";
import { customerIdOf } from "@parley/chassis/auth/caller.ts";
import type { Database } from "@parley/chassis/data/database.ts";
import type { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import type { CatalogService, Product } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { assertEtag, assertRoom, assertSameRequest, assertSold, priceCart } from "./cart.ts";
import { createStore, type Store, type StoredLine, type Tables } from "./store.ts";

export function createHandlers({
  database,
  catalog,
}: {
  database: Database<Tables>;
  catalog: Client<typeof CatalogService>;
}): ServiceImpl<typeof CartsService> {
  const store = createStore(database.db);

  async function cartOf(customerId: string) {
    const cart = await store.getCart(customerId);
    return { cart: priceCart(customerId, cart, await listProducts(cart.lines.map(({ productId }) => productId))) };
  }

  /** Throws `PRODUCT_NOT_FOUND` and `PRODUCT_IS_ARCHIVED`. */
  async function getPrice(productId: string): Promise<StoredLine["priceWhenAdded"]> {
    const [product] = await listProducts([productId]);
    return assertSold(product, productId).price;
  }

  async function listProducts(productIds: string[]): Promise<Product[]> {
    return productIds.length === 0 ? [] : (await catalog.batchGetProducts({ productIds })).products;
  }

  /** Changes a cart while nobody else does, unless it already is as it was asked for; that makes repeats safe, with an etag too. */
  async function change(
    { customerId, etag }: { customerId: string; etag: string },
    { isDone, work }: { isDone: (store: Store) => Promise<boolean>; work: (store: Store) => Promise<void> },
  ) {
    await database.transaction(async (tx) => {
      const inTx = createStore(tx);
      const current = await inTx.lock(customerId);
      if (await isDone(inTx)) return;
      assertEtag(current, etag);
      await work(inTx);
      await inTx.touch(customerId);
    });
    return cartOf(customerId);
  }

  return {
    getCart: ({ customerId }, context) => cartOf(customerIdOf(context, customerId)),

    async addItem({ productId, quantity, requestId, etag, customerId: named }, context) {
      const customerId = customerIdOf(context, named);
      const isRepeat = async (inTx: Store): Promise<boolean> => {
        const before = await inTx.findRequest(customerId, requestId);
        if (before !== undefined) assertSameRequest(before, { productId, quantity });
        return before !== undefined;
      };
      if (await isRepeat(store)) return cartOf(customerId);
      const price = await getPrice(productId);
      return change(
        { customerId, etag },
        {
          isDone: isRepeat,
          async work(inTx) {
            await inTx.saveRequest(customerId, requestId, { productId, quantity });
            const line = await inTx.findLine(customerId, productId);
            await saveLine(inTx, customerId, { productId, quantity: quantity + (line?.quantity ?? 0), priceWhenAdded: price });
          },
        },
      );
    },

    async setItemQuantity({ productId, quantity, etag, customerId: named }, context) {
      const customerId = customerIdOf(context, named);
      const price = await getPrice(productId);
      return change(
        { customerId, etag },
        {
          isDone: async (inTx) => (await inTx.findLine(customerId, productId))?.quantity === quantity,
          work: (inTx) => saveLine(inTx, customerId, { productId, quantity, priceWhenAdded: price }),
        },
      );
    },

    async removeItem({ productId, etag, customerId: named }, context) {
      const customerId = customerIdOf(context, named);
      return change(
        { customerId, etag },
        {
          isDone: async (inTx) => (await inTx.findLine(customerId, productId)) === undefined,
          work: (inTx) => inTx.removeLines(customerId, productId),
        },
      );
    },

    async clearCart({ etag, customerId: named }, context) {
      const customerId = customerIdOf(context, named);
      return change(
        { customerId, etag },
        { isDone: async (inTx) => (await inTx.countLines(customerId)) === 0, work: (inTx) => inTx.removeLines(customerId) },
      );
    },
  };
}

async function saveLine(store: Store, customerId: string, line: StoredLine): Promise<void> {
  const isNew = (await store.findLine(customerId, line.productId)) === undefined;
  assertRoom(line, isNew ? await store.countLines(customerId) : 0);
  await store.saveLine(customerId, line);
}
