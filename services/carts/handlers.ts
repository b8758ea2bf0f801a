import type { Client, ServiceImpl } from "@connectrpc/connect";
import { customerIdOf } from "@parley/chassis/auth/caller.ts";
import type { Database } from "@parley/chassis/data/database.ts";
import type { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import type { CatalogService, Product } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { assertEtag, assertRoom, assertSold, priceCart } from "./cart.ts";
import { createStore, type Store, type Tables } from "./store.ts";

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

  async function listProducts(productIds: string[]): Promise<Product[]> {
    return productIds.length === 0 ? [] : (await catalog.batchGetProducts({ productIds })).products;
  }

  /** Changes a cart while nobody else does; `work` returns whether it did. */
  async function change(cart: { customerId: string; etag: string; requestId?: string }, work: (store: Store) => Promise<boolean>) {
    const { customerId, requestId } = cart;
    await database.transaction(async (tx) => {
      const inTx = createStore(tx);
      const { etag, recentRequestIds } = await inTx.lock(customerId);
      if (requestId !== undefined && recentRequestIds.includes(requestId)) return; // a repeat
      assertEtag(etag, cart.etag);
      if (await work(inTx)) await inTx.touch(customerId, requestId);
    });
    return cartOf(customerId);
  }

  return {
    getCart: ({ customerId }, context) => cartOf(customerIdOf(context, customerId)),

    async addItem({ productId, quantity, requestId, etag, customerId: named }, context) {
      const customerId = customerIdOf(context, named);
      const [found] = await listProducts([productId]);
      const { price } = assertSold(found, productId);
      return change({ customerId, etag, requestId: requestId.toLowerCase() }, async (inTx) => {
        const line = await inTx.findLine(customerId, productId);
        const sum = quantity + (line?.quantity ?? 0);
        assertRoom({ quantity: sum, productId, otherLines: line === undefined ? await inTx.countLines(customerId) : 0 });
        await inTx.saveLine(customerId, { productId, quantity: sum, priceWhenAdded: price });
        return true;
      });
    },

    async setItemQuantity({ productId, quantity, etag, customerId: named }, context) {
      const customerId = customerIdOf(context, named);
      const [found] = await listProducts([productId]);
      const { price } = assertSold(found, productId);
      return change({ customerId, etag }, async (inTx) => {
        const line = await inTx.findLine(customerId, productId);
        if (line?.quantity === quantity) return false;
        assertRoom({ quantity, productId, otherLines: line === undefined ? await inTx.countLines(customerId) : 0 });
        await inTx.saveLine(customerId, { productId, quantity, priceWhenAdded: price });
        return true;
      });
    },

    async removeItem({ productId, etag, customerId: named }, context) {
      const customerId = customerIdOf(context, named);
      return change({ customerId, etag }, (inTx) => inTx.removeLines(customerId, productId));
    },

    async clearCart({ etag, customerId: named }, context) {
      const customerId = customerIdOf(context, named);
      return change({ customerId, etag }, (inTx) => inTx.removeLines(customerId));
    },
  };
}
