import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService } from "@parley/chassis/service.ts";
import { CatalogService } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { InventoryService } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { StorefrontService } from "@parley/gen/parley/storefront/v1/storefront_pb.js";
import { createHandlers } from "./handlers.ts";

/** The pages of the shop; it owns no data. */
export const storefront = defineService({
  name: "storefront",
  config: {},
  neighbours: { greeter: [GreeterService], catalog: [CatalogService], inventory: [InventoryService] },
  start: ({ client, log }) => {
    const greeter = client("greeter", GreeterService);
    const catalog = client("catalog", CatalogService);
    const inventory = client("inventory", InventoryService);
    return { handlers: [implement(StorefrontService, createHandlers({ greeter, catalog, inventory, log }))] };
  },
});
