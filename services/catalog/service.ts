import { defineDatabase } from "@parley/chassis/data/database.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService } from "@parley/chassis/service.ts";
import { CatalogService } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { createHandlers } from "./handlers.ts";
import type { Tables } from "./store.ts";

export const catalogDatabase = defineDatabase<Tables>({ migrations: new URL("./migrations/", import.meta.url) });

/** What the shop sells. */
export const catalog = defineService({
  name: "catalog",
  config: {},
  database: catalogDatabase,
  start: ({ database, eventLog }) => ({
    handlers: [implement(CatalogService, createHandlers({ database, eventLog })), implement(EventLogService, eventLog.handlers)],
  }),
});
