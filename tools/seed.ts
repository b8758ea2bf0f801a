// Adds products and their stock, for scale, to the suite that runs: npm run seed -- --products 100000

import { seededId, seedProducts } from "@parley/catalog/seed.ts";
import { catalogDatabase } from "@parley/catalog/service.ts";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { seedStock } from "@parley/inventory/seed.ts";
import { inventoryDatabase } from "@parley/inventory/service.ts";
import { parseArguments } from "./arguments.ts";
import { findServiceDatabase } from "./service-database.ts";

const usage = "npm run seed -- --products 100000";
const onHand = 1_000;

try {
  const { products = "" } = parseArguments({ options: { products: { type: "string" } } }, usage).values;
  if (!/^[1-9]\d{0,6}$/.test(products)) throw new StartError(`--products is a number, 1 to 9999999\nusage: ${usage}`);
  const count = Number(products);
  const catalog = catalogDatabase.open(await findServiceDatabase("catalog"));
  const inventory = inventoryDatabase.open(await findServiceDatabase("inventory"));
  try {
    await seedProducts(catalog, count);
    const productIds = Array.from({ length: count }, (_, index) => seededId(index + 1));
    await seedStock(inventory, productIds, onHand);
  } finally {
    await catalog.close();
    await inventory.close();
  }
  process.stdout.write(
    `there are ${count} seeded products, ${seededId(1)} to ${seededId(count)}, with ${onHand} on hand of each that is new\n`,
  );
} catch (error) {
  exitOnStartError(error);
}
