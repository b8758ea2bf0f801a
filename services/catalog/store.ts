import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type CategorySchema,
  type Product as ProductMessage,
  ProductOrder,
  type ProductSchema,
  ProductState,
} from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { type Generated, type Kysely, type Selectable, sql } from "kysely";
import type { ListToken } from "./page-token.ts";
import type { Changes } from "./product.ts";

/** All but what only searching needs. */
const columns = [
  "product_id",
  "title",
  "description",
  "price_minor_units",
  "currency_code",
  "categories",
  "image_path",
  "archived",
  "revision",
  "create_time",
  "update_time",
] as const;
const columnList = sql.join(columns.map((column) => sql.ref(`product.${column}`)));

/** The most products that a search finds, and that are compared with one: ranking more takes too long, and nobody reads them. */
export const mostRanked = 1_000;

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

type Product = MessageInitShape<typeof ProductSchema> & { productId: string };

/** The products in the catalog's database, or in one of its transactions. */
export interface Store {
  /** Lists products that are sold, behind a place in the list. `key` is what the list is ordered by. */
  listProducts(list: {
    readonly order: ProductOrder;
    readonly category: string;
    readonly after: ListToken | undefined;
    readonly limit: number;
  }): Promise<{ product: Product; key: string }[]>;
  listCategories(): Promise<MessageInitShape<typeof CategorySchema>[]>;
  /** Lists the products there are of these ids, in no order. */
  listByIds(productIds: readonly string[]): Promise<Product[]>;
  /** Lists products that have all these words, or words that begin with them, the best first. */
  search(search: { readonly words: readonly string[]; readonly offset: number; readonly limit: number }): Promise<Product[]>;
  /** Returns for each word the most similar one of all titles; none for those to which none is similar. */
  correctWords(words: readonly string[]): Promise<string[]>;
  listRelated(productId: string, limit: number): Promise<Product[]>;
  /** Adds products; returns those of whose id there was none. */
  insertAll(products: readonly NewProduct[]): Promise<Product[]>;
  /** Returns the product, which changes for nobody else until the transaction ends. */
  lock(productId: string): Promise<Product | undefined>;
  update(productId: string, changes: Changes): Promise<Product>;
}

type NewProduct = Pick<ProductMessage, "productId" | "title" | "description" | "categories" | "imagePath"> & {
  readonly price?: { readonly currencyCode: string; readonly minorUnits: bigint } | undefined;
};

export function createStore(db: Kysely<Tables>): Store {
  return {
    async listProducts({ order, category, after, limit }) {
      const column = order === ProductOrder.TITLE ? "title" : "price_minor_units";
      const [direction, beyond] = order === ProductOrder.PRICE_DESC ? (["desc", "<"] as const) : (["asc", ">"] as const);
      let query = db.selectFrom("product").select(columns).where("archived", "=", false);
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
        .select(columns)
        .where(sql<boolean>`product_id = ANY(${[...productIds]})`)
        .execute();
      return rows.map(productOf);
    },

    async search({ words, offset, limit }) {
      if (words.length === 0) return [];
      const tsquery = words.map((word) => `${word}:*`).join(" & ");
      const { rows } = await sql<ProductRow>`
        SELECT ${columnList} FROM (
          SELECT * FROM product WHERE NOT archived AND words @@ to_tsquery('english', ${tsquery}) LIMIT ${mostRanked}) AS product
        ORDER BY ts_rank(words, to_tsquery('english', ${tsquery})) DESC, product_id OFFSET ${offset} LIMIT ${limit}`.execute(db);
      return rows.map(productOf);
    },

    async correctWords(words) {
      const { rows } = await sql<{ word: string }>`
        SELECT title_word.word FROM unnest(${[...words]}::text[]) WITH ORDINALITY AS given (word, place), LATERAL (
          SELECT word FROM title_word WHERE title_word.word % lower(given.word)
          ORDER BY similarity(title_word.word, lower(given.word)) DESC, word LIMIT 1) AS title_word ORDER BY place`.execute(db);
      return rows.map(({ word }) => word);
    },

    async listRelated(productId, limit) {
      const { rows } = await sql<ProductRow>`
        SELECT ${columnList} FROM product AS one CROSS JOIN LATERAL (
          SELECT * FROM product AS other
          WHERE other.categories && one.categories AND other.product_id <> one.product_id AND NOT other.archived LIMIT ${mostRanked}) AS product
        WHERE one.product_id = ${productId}
        ORDER BY cardinality(ARRAY(SELECT unnest(product.categories) INTERSECT SELECT unnest(one.categories))) DESC,
          product.title, product.product_id
        LIMIT ${limit}`.execute(db);
      return rows.map(productOf);
    },

    async insertAll(products) {
      const rows = await db
        .insertInto("product")
        .values(
          products.map(({ productId, title, description, price, categories, imagePath }) => ({
            product_id: productId,
            title,
            description,
            price_minor_units: price?.minorUnits ?? 0n,
            currency_code: price?.currencyCode ?? "",
            categories,
            image_path: imagePath,
          })),
        )
        .onConflict((conflict) => conflict.doNothing())
        .returning(columns)
        .execute();
      return rows.map(productOf);
    },

    async lock(productId) {
      const row = await db.selectFrom("product").select(columns).where("product_id", "=", productId).forUpdate().executeTakeFirst();
      return row && productOf(row);
    },

    async update(productId, changes) {
      const row = await db
        .updateTable("product")
        .set({ ...changes, revision: sql`revision + 1`, update_time: sql`now()` })
        .where("product_id", "=", productId)
        .returning(columns)
        .executeTakeFirstOrThrow();
      return productOf(row);
    },
  };
}

type ProductRow = Selectable<ProductTable>;

function productOf(row: ProductRow): Product {
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
