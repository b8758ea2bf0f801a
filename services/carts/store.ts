import { type Generated, type Kysely, type Selectable, sql } from "kysely";

/** How many of the last requests of a cart are remembered, to tell repeats. */
const rememberedRequests = 50;

export interface Tables {
  cart: {
    customer_id: string;
    revision: Generated<bigint>;
    recent_request_ids: Generated<string[]>;
    update_time: Generated<Date>;
  };
  cart_line: LineTable;
}

interface LineTable {
  customer_id: string;
  product_id: string;
  quantity: number;
  price_minor_units: bigint;
  currency_code: string;
  add_time: Generated<Date>;
}

/** A line as it is stored: with the price of when it was added. */
export interface StoredLine {
  readonly productId: string;
  readonly quantity: number;
  readonly priceWhenAdded: { readonly currencyCode: string; readonly minorUnits: bigint };
}

export interface StoredCart {
  readonly etag: string;
  /** Undefined: it never changed. */
  readonly updateTime: Date | undefined;
  readonly lines: readonly StoredLine[];
}

/** The carts in their database, or in one of its transactions. */
export interface Store {
  getCart(customerId: string): Promise<StoredCart>;
  /** Returns the cart's revision, made if need be, which changes for nobody else until the transaction ends. */
  lock(customerId: string): Promise<{ etag: string; recentRequestIds: readonly string[] }>;
  findLine(customerId: string, productId: string): Promise<StoredLine | undefined>;
  countLines(customerId: string): Promise<number>;
  saveLine(customerId: string, line: StoredLine): Promise<void>;
  /** Removes a line or, without a product, all; returns whether there was one. */
  removeLines(customerId: string, productId?: string): Promise<boolean>;
  /** Gives the cart a new etag, and remembers the request. */
  touch(customerId: string, requestId?: string): Promise<void>;
}

/** The etag of a cart that never changed; revisions begin with 1. */
const noRevision = "0";

export function createStore(db: Kysely<Tables>): Store {
  return {
    async getCart(customerId) {
      // One statement, so that revision and lines belong together.
      const rows = await db
        .selectFrom("cart")
        .leftJoin("cart_line", "cart_line.customer_id", "cart.customer_id")
        .select(["revision", "update_time", "product_id", "quantity", "price_minor_units", "currency_code"])
        .where("cart.customer_id", "=", customerId)
        .orderBy("add_time")
        .orderBy("product_id")
        .execute();
      const lines = rows.flatMap(({ product_id: productId, quantity, price_minor_units: minorUnits, currency_code: currencyCode }) =>
        productId === null || quantity === null || minorUnits === null || currencyCode === null
          ? []
          : { productId, quantity, priceWhenAdded: { currencyCode, minorUnits } },
      );
      return { etag: String(rows[0]?.revision ?? noRevision), updateTime: rows[0]?.update_time, lines };
    },

    async lock(customerId) {
      const { rows } = await sql<{ revision: bigint; recent_request_ids: string[] }>`
        SELECT revision, recent_request_ids FROM cart WHERE customer_id = ${customerId} FOR UPDATE`.execute(db);
      const [row] = rows;
      if (row !== undefined) return { etag: String(row.revision), recentRequestIds: row.recent_request_ids };
      const made = await db
        .insertInto("cart")
        .values({ customer_id: customerId })
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirst();
      return made.numInsertedOrUpdatedRows === 1n ? { etag: noRevision, recentRequestIds: [] } : this.lock(customerId);
    },

    async findLine(customerId, productId) {
      const row = await db
        .selectFrom("cart_line")
        .selectAll()
        .where("customer_id", "=", customerId)
        .where("product_id", "=", productId)
        .executeTakeFirst();
      return row && lineOf(row);
    },

    async countLines(customerId) {
      const { count } = await db
        .selectFrom("cart_line")
        .select(sql<number>`count(*)::int`.as("count"))
        .where("customer_id", "=", customerId)
        .executeTakeFirstOrThrow();
      return count;
    },

    async saveLine(customerId, { productId, quantity, priceWhenAdded }) {
      await db
        .insertInto("cart_line")
        .values({
          customer_id: customerId,
          product_id: productId,
          quantity,
          price_minor_units: priceWhenAdded.minorUnits,
          currency_code: priceWhenAdded.currencyCode,
        })
        .onConflict((conflict) => conflict.columns(["customer_id", "product_id"]).doUpdateSet({ quantity }))
        .execute();
    },

    async removeLines(customerId, productId) {
      let query = db.deleteFrom("cart_line").where("customer_id", "=", customerId);
      if (productId !== undefined) query = query.where("product_id", "=", productId);
      return (await query.executeTakeFirst()).numDeletedRows > 0n;
    },

    async touch(customerId, requestId) {
      const remembered =
        requestId === undefined
          ? sql<string[]>`recent_request_ids`
          : sql<string[]>`
        (array_prepend(${requestId}::uuid, recent_request_ids))[1:${sql.lit(rememberedRequests)}]`;
      await db
        .updateTable("cart")
        .set({ revision: sql`nextval('cart_revision')`, update_time: sql`now()`, recent_request_ids: remembered })
        .where("customer_id", "=", customerId)
        .execute();
    },
  };
}

function lineOf(row: Selectable<LineTable>): StoredLine {
  const priceWhenAdded = { currencyCode: row.currency_code, minorUnits: row.price_minor_units };
  return { productId: row.product_id, quantity: row.quantity, priceWhenAdded };
}
