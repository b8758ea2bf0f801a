import { defineDatabase } from "@parley/chassis/data/database.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService } from "@parley/chassis/service.ts";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { CatalogService } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { createHandlers } from "./handlers.ts";
import type { Tables } from "./store.ts";

export const cartsDatabase = defineDatabase<Tables>({ migrations: new URL("./migrations/", import.meta.url) });

/** What customers are about to buy. */
export const carts = defineService({
  name: "carts",
  config: {},
  neighbours: { catalog: [CatalogService] },
  database: cartsDatabase,
  handlers: ({ database, client }) => [implement(CartsService, createHandlers({ database, catalog: client("catalog", CatalogService) }))],
});
