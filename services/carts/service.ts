import { startConsumer } from "@parley/chassis/data/consumer.ts";
import { defineDatabase } from "@parley/chassis/data/database.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService } from "@parley/chassis/service.ts";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { CatalogService } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { eventHandlers } from "./consumer.ts";
import { createHandlers } from "./handlers.ts";
import type { Tables } from "./store.ts";

export const cartsDatabase = defineDatabase<Tables>({ migrations: new URL("./migrations/", import.meta.url) });

/** What customers are about to buy. */
export const carts = defineService({
  name: "carts",
  config: {},
  neighbours: { catalog: [CatalogService], orders: [EventLogService] },
  database: cartsDatabase,
  start: async ({ database, client, log }) => ({
    handlers: [implement(CartsService, createHandlers({ database, catalog: client("catalog", CatalogService) }))],
    background: [
      await startConsumer({
        database,
        log,
        sources: { orders: { client: client("orders", EventLogService), handlers: eventHandlers } },
      }),
    ],
  }),
});
