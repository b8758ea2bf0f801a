import type { Database } from "@parley/chassis/data/database.ts";
import { startWork, type Worker } from "@parley/chassis/data/work.ts";
import type { Logger } from "pino";
import { createStore, type Tables } from "./store.ts";

/** Starts to give back what is held by reservations that are over their time. */
export function startExpiry({ database, log }: { database: Database<Tables>; log: Logger }): Worker {
  return startWork({
    database,
    table: "reservation",
    key: "reservation_id",
    log,
    handle: (lease) => database.transaction((tx) => createStore(tx).expire(lease)),
  });
}
