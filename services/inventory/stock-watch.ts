import { setTimeout as delay } from "node:timers/promises";
import { detach } from "@parley/chassis/rpc/current-call.ts";
import type { Stock } from "./store.ts";

/** How often the stock that is watched is looked at: twice a second. */
const intervalMs = 500;

/** Streams the stock of a set of products, and then what has changed of it. */
export type StockWatch = (productIds: ReadonlySet<string>, signal: AbortSignal) => AsyncIterable<Stock[]>;

/**
 * Creates the watch of a process. One statement every half second reads all that anybody watches,
 * however many they are, and nothing while nobody does: so a change of any replica is seen.
 */
export function createStockWatch(listStock: (productIds: readonly string[]) => Promise<Stock[]>): StockWatch {
  const watched = new Set<ReadonlySet<string>>();
  let next: Promise<ReadonlyMap<string, Stock>> | undefined;

  /** What all that watch share: the state of half a second after the first of them asked. */
  function look(): Promise<ReadonlyMap<string, Stock>> {
    next ??= detach(async () => {
      await delay(intervalMs);
      next = undefined;
      const productIds = new Set([...watched].flatMap((ids) => [...ids]));
      return new Map((await listStock([...productIds])).map((stock) => [stock.productId, stock]));
    });
    return next;
  }

  return async function* (productIds, signal) {
    watched.add(productIds);
    try {
      const sent = new Map<string, Stock>();
      const first = await listStock([...productIds]);
      yield first;
      for (const stock of first) sent.set(stock.productId, stock);
      while (!signal.aborted) {
        const now = await look();
        const changed = [...productIds].flatMap((productId) => {
          const stock = now.get(productId);
          return stock === undefined || isSame(stock, sent.get(productId)) ? [] : stock;
        });
        for (const stock of changed) sent.set(stock.productId, stock);
        if (changed.length > 0) yield changed;
      }
    } finally {
      watched.delete(productIds);
    }
  };
}

function isSame(one: Stock, other: Stock | undefined): boolean {
  return one.onHand === other?.onHand && one.reserved === other?.reserved;
}
