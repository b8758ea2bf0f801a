import { type Generated, type GeneratedAlways, type Kysely, type Selectable, sql } from "kysely";

/** How many of the last requests of a cart are remembered, to tell repeats. */
const rememberedRequests = 50;

export interface Tables {
  cart: { customer_id: string; revision: Generated<bigint>; update_time: Date | null };
  cart_line: LineTable;
  cart_request: RequestTable;
}

interface RequestTable {
  customer_id: string;
  request_id: string;
  product_id: string;
  quantity: number;
  number: GeneratedAlways<bigint>;
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

/** A request to add to a cart. */
export interface StoredRequest {
  readonly productId: string;
  readonly quantity: number;
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
  /** Returns the cart's etag; the cart, made if need be, changes for nobody else until the transaction ends. */
  lock(customerId: string): Promise<string>;
  findRequest(customerId: string, requestId: string): Promise<StoredRequest | undefined>;
  /** Remembers a request, and forgets those that came before the last 50. */
  saveRequest(customerId: string, requestId: string, request: StoredRequest): Promise<void>;
  findLine(customerId: string, productId: string): Promise<StoredLine | undefined>;
  countLines(customerId: string): Promise<number>;
  saveLine(customerId: string, line: StoredLine): Promise<void>;
  /** Removes a line or, without a product, all. */
  removeLines(customerId: string, productId?: string): Promise<void>;
  /** Takes so many of each product out of the cart, as far as they are there. */
  subtract(customerId: string, lines: readonly { readonly productId: string; readonly quantity: number }[]): Promise<void>;
  /** Gives the cart, made if need be, a new etag. */
  touch(customerId: string): Promise<void>;
}

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
      return { etag: String(rows[0]?.revision ?? 0n), updateTime: rows[0]?.update_time ?? undefined, lines };
    },

    async lock(customerId) {
      await sql`INSERT INTO cart (customer_id) VALUES (${customerId}) ON CONFLICT DO NOTHING`.execute(db);
      const { revision } = await db
        .selectFrom("cart")
        .select("revision")
        .where("customer_id", "=", customerId)
        .forUpdate()
        .executeTakeFirstOrThrow();
      return String(revision);
    },

    async findRequest(customerId, requestId) {
      const row = await db
        .selectFrom("cart_request")
        .select(["product_id", "quantity"])
        .where("customer_id", "=", customerId)
        .where("request_id", "=", requestId)
        .executeTakeFirst();
      return row && { productId: row.product_id, quantity: row.quantity };
    },

    async saveRequest(customerId, requestId, { productId, quantity }) {
      await db
        .insertInto("cart_request")
        .values({ customer_id: customerId, request_id: requestId, product_id: productId, quantity })
        .execute();
      await sql`DELETE FROM cart_request WHERE customer_id = ${customerId} AND number <=
        (SELECT number FROM cart_request WHERE customer_id = ${customerId} ORDER BY number DESC OFFSET ${rememberedRequests} LIMIT 1)`.execute(
        db,
      );
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
      await query.execute();
    },

    async subtract(customerId, lines) {
      await sql`
        WITH ordered AS (SELECT * FROM unnest(${lines.map(({ productId }) => productId)}::text[], ${lines.map(({ quantity }) => quantity)}::int[])
            AS line (product_id, ordered)),
          gone AS (DELETE FROM cart_line USING ordered
            WHERE customer_id = ${customerId} AND cart_line.product_id = ordered.product_id AND quantity <= ordered)
        UPDATE cart_line SET quantity = quantity - ordered FROM ordered
        WHERE customer_id = ${customerId} AND cart_line.product_id = ordered.product_id AND quantity > ordered`.execute(db);
    },

    async touch(customerId) {
      await sql`INSERT INTO cart (customer_id, revision, update_time) VALUES (${customerId}, nextval('cart_revision'), now())
        ON CONFLICT (customer_id) DO UPDATE SET revision = excluded.revision, update_time = excluded.update_time`.execute(db);
    },
  };
}

function lineOf(row: Selectable<LineTable>): StoredLine {
  const priceWhenAdded = { currencyCode: row.currency_code, minorUnits: row.price_minor_units };
  return { productId: row.product_id, quantity: row.quantity, priceWhenAdded };
}
