import type { Database } from "@parley/chassis/data/database.ts";
import { startWork, type Worker } from "@parley/chassis/data/work.ts";
import type { Logger } from "pino";
import type { Operations } from "./operations.ts";
import { createStore, type Tables } from "./store.ts";

/** Starts to ask again for what no caller asks for any more. */
export function startReconciliation({
  database,
  operations,
  log,
}: {
  readonly database: Database<Tables>;
  readonly operations: Operations;
  readonly log: Logger;
}): Worker {
  return startWork({
    database,
    table: "payment",
    key: "payment_id",
    log,
    async handle(lease) {
      await operations.reconcile(lease.key);
      await database.transaction(async (tx) => {
        const store = createStore(tx);
        await store.lock(lease.key); // a statement of its own, so that the next one sees each refund that was opened meanwhile
        await store.endWork(lease);
      });
    },
  });
}
