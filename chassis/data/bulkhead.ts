import { untilAborted } from "../rpc/until-aborted.ts";

/** Keeps those who go by one key from taking all of what there is little of (bulkhead: Nygard, Release It!, 2007). */
export interface Bulkhead {
  /** How many wait. */
  readonly waiting: number;
  /** Resolves, in the order of those who ask, when fewer than so many of its key are in; whoever is in must leave once. Rejects when the signal fires, which is asked for only where it waits. */
  enter(key: string, signal: () => AbortSignal): Promise<() => void>;
}

/** Creates a bulkhead that lets in at most so many of one key at once. */
export function createBulkhead(most: number): Bulkhead {
  const inside = new Map<string, number>();
  const queues = new Map<string, Set<() => void>>();
  let waiting = 0;

  function leave(key: string): void {
    const [next] = queues.get(key) ?? [];
    if (next !== undefined) return void next(); // who takes the place
    const left = (inside.get(key) ?? 1) - 1;
    if (left > 0) inside.set(key, left);
    else inside.delete(key);
  }

  async function wait(key: string, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const queue = queues.get(key) ?? new Set();
    const take = (): void => {
      remove();
      resolve();
    };
    const remove = (): void => {
      queue.delete(take);
      if (queue.size === 0) queues.delete(key);
    };
    queues.set(key, queue.add(take));
    waiting++;
    try {
      await untilAborted(promise, signal);
    } catch (error) {
      if (queue.has(take)) remove();
      else leave(key); // it was given the place at the same moment
      throw error;
    } finally {
      waiting--;
    }
  }

  return {
    get waiting() {
      return waiting;
    },
    async enter(key, signal) {
      const count = inside.get(key) ?? 0;
      if (count < most) inside.set(key, count + 1);
      else await wait(key, signal());
      return () => leave(key);
    },
  };
}
