import { appendEvents } from "@parley/chassis/data/event-log.ts";
import { ProductCreatedSchema, ProductState } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { type Kysely, sql } from "kysely";

interface Row {
  product_id: string;
  title: string;
  description: string;
  price_minor_units: bigint;
  currency_code: string;
  categories: string[];
  image_path: string;
}

/** The products that came before the log, so that who reads it from the beginning knows all. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<Row>`SELECT * FROM product WHERE NOT archived ORDER BY product_id`.execute(db);
  const events = rows.map((row) => ({
    subject: row.product_id,
    payload: {
      product: {
        productId: row.product_id,
        title: row.title,
        description: row.description,
        price: { currencyCode: row.currency_code, minorUnits: row.price_minor_units },
        categories: row.categories,
        imagePath: row.image_path,
        state: ProductState.ACTIVE,
        etag: "1",
      },
    },
  }));
  await appendEvents(db, ProductCreatedSchema, events);
}
