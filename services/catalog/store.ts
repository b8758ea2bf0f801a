import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Database } from "@parley/chassis/data/database.ts";
import { type CategorySchema, ProductOrder, type ProductSchema, ProductState } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { type Generated, type Selectable, sql } from "kysely";
import type { PageToken } from "./page-token.ts";

export interface Tables {
  product: ProductTable;
}

interface ProductTable {
  product_id: string;
  title: string;
  description: string;
  price_minor_units: bigint;
  currency_code: string;
  categories: string[];
  image_path: string;
  archived: Generated<boolean>;
  revision: Generated<bigint>;
  create_time: Generated<Date>;
  update_time: Generated<Date>;
}

type Product = MessageInitShape<typeof ProductSchema>;

/** The products in the catalog's database. */
export interface Store {
  /** Lists products that are sold, behind a place in the list. `key` is what the list is ordered by. */
  listProducts(list: {
    readonly order: ProductOrder;
    readonly category: string;
    readonly after: PageToken | undefined;
    readonly limit: number;
  }): Promise<{ product: Product & { productId: string }; key: string }[]>;
  listCategories(): Promise<MessageInitShape<typeof CategorySchema>[]>;
  /** Lists the products there are of these ids, in no order. */
  listByIds(productIds: readonly string[]): Promise<(Product & { productId: string })[]>;
}

export function createStore({ db }: Database<Tables>): Store {
  return {
    async listProducts({ order, category, after, limit }) {
      const column = order === ProductOrder.TITLE ? "title" : "price_minor_units";
      const [direction, beyond] = order === ProductOrder.PRICE_DESC ? (["desc", "<"] as const) : (["asc", ">"] as const);
      let query = db.selectFrom("product").selectAll().where("archived", "=", false);
      if (category !== "") query = query.where(sql<boolean>`categories @> ${[category]}`);
      if (after !== undefined) {
        const key = column === "title" ? after.key : BigInt(after.key);
        query = query.where((eb) => eb(eb.refTuple(column, "product_id"), beyond, eb.tuple(key, after.productId)));
      }
      const rows = await query.orderBy(column, direction).orderBy("product_id", direction).limit(limit).execute();
      return rows.map((row) => ({ product: productOf(row), key: String(row[column]) }));
    },

    async listCategories() {
      const { rows } = await sql<{ category_id: string; product_count: number }>`
        SELECT category_id, count(*)::int AS product_count FROM product, unnest(categories) AS category_id
        WHERE NOT archived GROUP BY category_id ORDER BY category_id`.execute(db);
      return rows.map((row) => ({ categoryId: row.category_id, productCount: row.product_count }));
    },

    async listByIds(productIds) {
      const rows = await db
        .selectFrom("product")
        .selectAll()
        .where("product_id", "in", [...productIds])
        .execute();
      return rows.map(productOf);
    },
  };
}

function productOf(row: Selectable<ProductTable>): Product & { productId: string } {
  return {
    productId: row.product_id,
    title: row.title,
    description: row.description,
    price: { currencyCode: row.currency_code, minorUnits: row.price_minor_units },
    categories: row.categories,
    imagePath: row.image_path,
    state: row.archived ? ProductState.ARCHIVED : ProductState.ACTIVE,
    etag: String(row.revision),
    createTime: timestampFromDate(row.create_time),
    updateTime: timestampFromDate(row.update_time),
  };
}
