import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { detach } from "@parley/chassis/rpc/current-call.ts";
import { untilAborted } from "@parley/chassis/rpc/until-aborted.ts";
import { type Order, OrderSchema, OrderState, RejectReason } from "@parley/gen/parley/orders/v1/orders_pb.js";
import type { Logger } from "pino";
import { isFinal } from "./order.ts";
import type { Store } from "./store.ts";

/** How often orders that are watched are looked at, for changes that other replicas made: twice a second. */
const intervalMs = 500;

/** Tells of orders that change. */
export interface OrderWatch {
  /** Says that this process has changed an order. */
  changed(order: Order): void;
  /** Resolves with an order, of which this much is known, once it has changed so that `isEnough` says so; undefined when the signal fires. */
  wait(known: Order, isEnough: (order: Order) => boolean, signal: AbortSignal): Promise<Order | undefined>;
  /** Streams the order as it is, and then as it is after each further change, until the last. Ends at once where there is none. */
  follow(orderId: string, signal: AbortSignal): AsyncIterable<Order>;
}

/** Somebody who waits for an order to change. */
interface Watcher {
  /** How many changes they know. */
  seen: number;
  tell(order: Order): void;
}

/**
 * Creates the watch of a process. What the process changes is told at once; one statement every half
 * second finds what other replicas have changed of all that anybody watches, and none while nobody does.
 */
export function createOrderWatch({ find, listChanged }: Pick<Store, "find" | "listChanged">, log: Logger): OrderWatch {
  const watchers = new Map<string, Set<Watcher>>();
  let isLooking = false;

  function changed(order: Order): void {
    for (const watcher of watchers.get(order.orderId) ?? []) {
      if (watcher.seen >= order.history.length) continue;
      watcher.seen = order.history.length;
      watcher.tell(order);
    }
  }

  async function look(): Promise<void> {
    isLooking = true;
    while (watchers.size > 0) {
      await delay(intervalMs);
      const seen = new Map([...watchers].map(([orderId, some]) => [orderId, Math.min(...[...some].map((watcher) => watcher.seen))]));
      try {
        for (const order of await listChanged(seen)) changed(order);
      } catch (error) {
        log.warn({ err: error }, "orders that are watched cannot be looked at; trying again");
      }
    }
    isLooking = false;
  }

  function enter(orderId: string, watcher: Watcher): () => void {
    const some = watchers.get(orderId) ?? new Set();
    watchers.set(orderId, some.add(watcher));
    if (!isLooking) void detach(look);
    return () => {
      some.delete(watcher);
      if (some.size === 0) watchers.delete(orderId);
    };
  }

  return {
    changed,

    async wait({ orderId, history }, isEnough, signal) {
      const found = Promise.withResolvers<Order>();
      const leave = enter(orderId, { seen: history.length, tell: (order) => isEnough(order) && found.resolve(order) });
      try {
        return await untilAborted(found.promise, signal).catch(() => undefined);
      } finally {
        leave();
      }
    },

    async *follow(orderId, signal) {
      let latest: Order | undefined;
      let told = Promise.withResolvers<void>();
      const leave = enter(orderId, {
        seen: 0,
        tell(order: Order) {
          latest = order;
          told.resolve();
        },
      });
      try {
        const now = await find(orderId);
        if (now === undefined) return;
        changed(now);
        for (let sent = now.history.length, order = now; ; ) {
          yield order;
          if (isFinal(order.state)) return;
          while (latest === undefined || latest.history.length <= sent) {
            await untilAborted(told.promise, signal);
            told = Promise.withResolvers();
          }
          sent++; // each change for itself, also where several came at once
          order = asOf(latest, sent);
        }
      } finally {
        leave();
      }
    },
  };
}

/** Returns an order as it was after so many changes. */
function asOf(order: Order, changes: number): Order {
  const history = order.history.slice(0, changes);
  const state = history.at(-1)?.state ?? order.state;
  const isRejected = state === OrderState.REJECTING || state === OrderState.REJECTED;
  return create(OrderSchema, { ...order, history, state, rejectReason: isRejected ? order.rejectReason : RejectReason.UNSPECIFIED });
}
