import type { Database } from "@parley/chassis/data/database.ts";
import { appendEvents } from "@parley/chassis/data/event-log.ts";
import { ProductCreatedSchema } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { createStore, type Tables } from "./store.ts";

const batch = 1_000;
const adjectives = ["Linen", "Walnut", "Copper", "Wool", "Ceramic", "Oak", "Cotton", "Steel", "Cork", "Marble", "Bamboo", "Brass"];
const nouns = ["Bowl", "Lamp", "Chair", "Blanket", "Kettle", "Basket", "Shelf", "Clock", "Towel", "Vase", "Board", "Candle", "Notebook"];
const uses = ["for the kitchen", "for the garden", "for a long evening", "for children", "for the office", "for every day"];
const categories = ["clothing", "food", "garden", "home", "kitchen", "office", "outdoors", "toys"];

/** Returns the id of the product of a number, which seeding makes. */
export function seededId(number: number): string {
  return `seeded-${number}`;
}

/** Adds products, numbered from 1, where they are missing, with their events; always the same for a number. */
export async function seedProducts(database: Database<Tables>, count: number): Promise<void> {
  for (let first = 1; first <= count; first += batch) {
    const numbers = Array.from({ length: Math.min(batch, count - first + 1) }, (_, index) => first + index);
    await database.transaction(async (tx) => {
      const products = await createStore(tx).insertAll(numbers.map(productOf));
      await appendEvents(
        tx,
        ProductCreatedSchema,
        products.map((product) => ({ subject: product.productId, payload: { product } })),
      );
    });
  }
}

function productOf(number: number) {
  const pick = (from: readonly string[], salt: number): string => from[(number * salt + Math.floor(number / 13)) % from.length] ?? "";
  const title = `${pick(adjectives, 5)} ${pick(nouns, 7)} No. ${number}`;
  return {
    productId: seededId(number),
    title,
    description: `${title}: ${pick(adjectives, 11).toLowerCase()} and ${pick(adjectives, 3).toLowerCase()}, ${pick(uses, 5)}.`,
    price: { currencyCode: "EUR", minorUnits: BigInt(100 + ((number * 7_919) % 50_000)) },
    categories: [pick(categories, 3)],
    imagePath: "",
  };
}
