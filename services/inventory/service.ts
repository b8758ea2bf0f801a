import { defineDatabase } from "@parley/chassis/data/database.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService } from "@parley/chassis/service.ts";
import { InventoryService } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { startExpiry } from "./expiry.ts";
import { createHandlers } from "./handlers.ts";
import type { Tables } from "./store.ts";

export const inventoryDatabase = defineDatabase<Tables>({ migrations: new URL("./migrations/", import.meta.url) });

/** What is in stock, and for whom it is kept. */
export const inventory = defineService({
  name: "inventory",
  config: {},
  database: inventoryDatabase,
  start: ({ database, log }) => ({
    handlers: [implement(InventoryService, createHandlers({ database }))],
    background: [startExpiry({ database, log })],
  }),
});
