import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Database } from "@parley/chassis/data/database.ts";
import { ErrorReason, type InventoryService, ReservationState } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { fail } from "./errors.ts";
import { isFor, linesByProduct } from "./reservation.ts";
import { createStockWatch } from "./stock-watch.ts";
import { createStore, type Reservation, type Store, type Tables } from "./store.ts";

/** How long a reservation is held where the caller does not say. */
const defaultHoldMs = 15 * 60_000;

export function createHandlers({ database }: { database: Database<Tables> }): ServiceImpl<typeof InventoryService> {
  const store = createStore(database.db);
  const watchStock = createStockWatch(store.listStock);
  return {
    async getStock({ productId }) {
      const [stock] = await store.listStock([productId]);
      if (stock === undefined) throw fail(ErrorReason.PRODUCT_NOT_FOUND, `nothing is known of the stock of ${productId}`, { productId });
      return { stock };
    },

    async batchGetStock({ productIds }) {
      const stocks = new Map((await store.listStock(productIds)).map((stock) => [stock.productId, stock]));
      return { stock: [...new Set(productIds)].flatMap((productId) => stocks.get(productId) ?? []) };
    },

    async setStock({ productId, onHand = 0n }) {
      const stock = await store.setStock(productId, onHand);
      if (stock === undefined)
        throw fail(ErrorReason.STOCK_IS_RESERVED, `more than ${onHand} of ${productId} are reserved: release reservations first`, {
          productId,
        });
      return { stock };
    },

    async restock({ productId, quantity, requestId }) {
      return database.transaction(async (tx) => {
        const inTx = createStore(tx);
        const { isNew, isSame } = await inTx.recordRestock({ requestId, productId, quantity });
        if (!isSame) throw mismatch(requestId);
        return { stock: await inTx.addStock(productId, isNew ? quantity : 0n) };
      });
    },

    async reserve({ reservationId, lines: given, hold }) {
      const lines = linesByProduct(given);
      return database.transaction(async (tx) => {
        const inTx = createStore(tx);
        const reservation = await inTx.insertHeld({ reservationId, lines, holdMs: hold === undefined ? defaultHoldMs : durationMs(hold) });
        if (reservation === undefined) {
          const existing = await getLocked(inTx, reservationId);
          if (!isFor(existing, lines)) throw mismatch(reservationId);
          return { reservation: existing };
        }
        const shortProductIds = await inTx.hold(lines);
        return { reservation: shortProductIds.length === 0 ? reservation : await inTx.refuse(reservationId, shortProductIds) };
      });
    },

    async commitReservation({ reservationId }) {
      return database.transaction(async (tx) => {
        const inTx = createStore(tx);
        const reservation = await inTx.apply(await getLocked(inTx, reservationId), "commit");
        if (reservation.state === ReservationState.COMMITTED) return { reservation };
        const state = ReservationState[reservation.state];
        throw fail(ErrorReason.RESERVATION_ENDED, `reservation ${reservationId} is ${state}: reserve again with another id`, { state });
      });
    },

    async releaseReservation({ reservationId }) {
      return database.transaction(async (tx) => {
        const inTx = createStore(tx);
        const tombstone = await inTx.insertReleased(reservationId);
        return { reservation: tombstone ?? (await inTx.apply(await getLocked(inTx, reservationId), "release")) };
      });
    },

    async *watchStock({ productIds }, { signal }) {
      for await (const stock of watchStock(new Set(productIds), signal)) yield { stock };
    },
  };
}

/** Throws `RESERVATION_NOT_FOUND`. */
async function getLocked(store: Store, reservationId: string): Promise<Reservation> {
  const reservation = await store.lockReservation(reservationId);
  if (reservation !== undefined) return reservation;
  throw fail(ErrorReason.RESERVATION_NOT_FOUND, `there is no reservation ${reservationId}`, { reservationId });
}

function mismatch(id: string): Error {
  return fail(ErrorReason.REQUEST_MISMATCH, `${id} was used with other contents before: choose another id`, { id });
}
