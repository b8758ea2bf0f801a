import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { origin } from "@parley/chassis/data/origin.ts";
import { type Claim, done, intervalOf, type WorkColumns } from "@parley/chassis/data/work.ts";
import { type ReservationSchema, ReservationState, type StockSchema } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { type ColumnType, type Generated, type Kysely, type Selectable, sql } from "kysely";
import { type Change, findChange, type Line, type Operation } from "./reservation.ts";

export interface Tables {
  stock: StockTable;
  restock: { request_id: string; product_id: string; quantity: bigint };
  reservation: ReservationTable;
}

interface StockTable {
  product_id: string;
  on_hand: bigint;
  reserved: Generated<bigint>;
}

interface ReservationTable extends WorkColumns {
  reservation_id: string;
  state: ColumnType<Exclude<keyof typeof ReservationState, "UNSPECIFIED">, string, string>;
  product_ids: string[];
  quantities: bigint[];
  short_product_ids: Generated<string[]>;
  expire_time: Date | null;
}

export type Stock = MessageInitShape<typeof StockSchema> & { productId: string };
export type Reservation = MessageInitShape<typeof ReservationSchema> & { reservationId: string; state: ReservationState; lines: Line[] };

/** The stock in the inventory's database, or in one of its transactions. */
export interface Store {
  /** Lists what is known of these products, in no order. */
  listStock(productIds: readonly string[]): Promise<Stock[]>;
  /** Returns undefined where more is reserved. */
  setStock(productId: string, onHand: bigint): Promise<Stock | undefined>;
  addStock(productId: string, quantity: bigint): Promise<Stock>;
  /** Whether the request is new, and where it is not, whether it was the same. */
  recordRestock(request: { requestId: string; productId: string; quantity: bigint }): Promise<{ isNew: boolean; isSame: boolean }>;

  /** Adds a reservation that is held; returns undefined where there is one of this id. */
  insertHeld(reservation: { reservationId: string; lines: readonly Line[]; holdMs: number }): Promise<Reservation | undefined>;
  /** Adds a reservation that keeps nothing; returns undefined where there is one of this id. */
  insertReleased(reservationId: string): Promise<Reservation | undefined>;
  /** Returns the reservation, which changes for nobody else until the transaction ends. */
  lockReservation(reservationId: string): Promise<Reservation | undefined>;
  /** Ends a reservation for which there is too little. */
  refuse(reservationId: string, shortProductIds: readonly string[]): Promise<Reservation>;
  /** Does to a reservation, which is locked, what an operation does in its state, with its stock; returns it as it is then. */
  apply(reservation: Reservation, operation: Exclude<Operation, "reserve">): Promise<Reservation>;
  /** Ends a reservation that is due, and gives back what it holds; does nothing where its worker has lost it, or it was ended meanwhile. */
  expire(lease: Claim): Promise<void>;

  /** Reserves all lines, which are by product, or nothing; returns the products of which there is too little. */
  hold(lines: readonly Line[]): Promise<string[]>;
}

export function createStore(db: Kysely<Tables>): Store {
  /** Adds so many times each quantity to what is on hand and to what is reserved. */
  async function move(lines: readonly Line[], times: Pick<Change, "onHand" | "reserved">): Promise<void> {
    await sql`
      WITH line AS (SELECT * FROM ${tableOf(lines)}),
        locked AS (SELECT product_id FROM stock WHERE product_id IN (SELECT product_id FROM line) ORDER BY product_id FOR UPDATE)
      UPDATE stock SET on_hand = on_hand + ${times.onHand} * quantity, reserved = reserved + ${times.reserved} * quantity
      FROM line JOIN locked USING (product_id) WHERE stock.product_id = line.product_id`.execute(db);
  }

  /** Changes a reservation's state, after which it does not expire. */
  async function end(reservationId: string, state: ReservationState, shortProductIds: readonly string[] = []): Promise<Reservation> {
    const row = await db
      .updateTable("reservation")
      .set({ state: ReservationState[state], short_product_ids: [...shortProductIds], expire_time: null, ...done })
      .where("reservation_id", "=", reservationId)
      .returningAll()
      .executeTakeFirstOrThrow();
    return reservationOf(row);
  }

  async function apply(reservation: Reservation, operation: Exclude<Operation, "reserve">): Promise<Reservation> {
    const change = findChange(operation, reservation.state);
    if (change === undefined) return reservation;
    await move(reservation.lines, change);
    return end(reservation.reservationId, change.to);
  }

  return {
    async listStock(productIds) {
      const rows = await db
        .selectFrom("stock")
        .selectAll()
        .where(sql<boolean>`product_id = ANY(${[...productIds]})`)
        .execute();
      return rows.map(stockOf);
    },

    async setStock(productId, onHand) {
      const row = await db
        .insertInto("stock")
        .values({ product_id: productId, on_hand: onHand })
        .onConflict((conflict) => conflict.column("product_id").doUpdateSet({ on_hand: onHand }).where("stock.reserved", "<=", onHand))
        .returningAll()
        .executeTakeFirst();
      return row && stockOf(row);
    },

    async addStock(productId, quantity) {
      const row = await db
        .insertInto("stock")
        .values({ product_id: productId, on_hand: quantity })
        .onConflict((conflict) => conflict.column("product_id").doUpdateSet({ on_hand: sql`stock.on_hand + ${quantity}` }))
        .returningAll()
        .executeTakeFirstOrThrow();
      return stockOf(row);
    },

    async recordRestock({ requestId, productId, quantity }) {
      const { numInsertedOrUpdatedRows } = await db
        .insertInto("restock")
        .values({ request_id: requestId, product_id: productId, quantity })
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirst();
      if (numInsertedOrUpdatedRows === 1n) return { isNew: true, isSame: true };
      const before = await db.selectFrom("restock").selectAll().where("request_id", "=", requestId).executeTakeFirst();
      return { isNew: false, isSame: before?.product_id === productId && before.quantity === quantity };
    },

    async insertHeld({ reservationId, lines, holdMs }) {
      const expireTime = sql<Date>`now() + ${intervalOf(holdMs)}`;
      const row = await db
        .insertInto("reservation")
        .values({
          reservation_id: reservationId,
          state: "HELD",
          product_ids: lines.map(({ productId }) => productId),
          quantities: lines.map(({ quantity }) => quantity),
          expire_time: expireTime,
          due_at: expireTime,
          ...origin(),
        })
        .onConflict((conflict) => conflict.doNothing())
        .returningAll()
        .executeTakeFirst();
      return row && reservationOf(row);
    },

    async insertReleased(reservationId) {
      const row = await db
        .insertInto("reservation")
        .values({ reservation_id: reservationId, state: "RELEASED", product_ids: [], quantities: [], expire_time: null, due_at: null })
        .onConflict((conflict) => conflict.doNothing())
        .returningAll()
        .executeTakeFirst();
      return row && reservationOf(row);
    },

    async lockReservation(reservationId) {
      const row = await db.selectFrom("reservation").selectAll().where("reservation_id", "=", reservationId).forUpdate().executeTakeFirst();
      return row && reservationOf(row);
    },

    refuse: (reservationId, shortProductIds) => end(reservationId, ReservationState.REFUSED, shortProductIds),

    apply,

    async expire({ key, attempt }) {
      const row = await db
        .selectFrom("reservation")
        .selectAll()
        .where("reservation_id", "=", key)
        .where("attempt", "=", attempt)
        .forUpdate()
        .executeTakeFirst();
      if (row !== undefined) await apply(reservationOf(row), "expire");
    },

    async hold(lines) {
      // In the order of the products, in which all lock them: so nobody waits for whoever waits for them.
      const { rows } = await sql<{ product_id: string }>`
        SELECT product_id FROM ${tableOf(lines)}
        LEFT JOIN (SELECT * FROM stock WHERE product_id = ANY(${lines.map(({ productId }) => productId)}) ORDER BY product_id FOR UPDATE) AS stock
          USING (product_id)
        WHERE on_hand IS NULL OR on_hand - reserved < quantity ORDER BY product_id`.execute(db);
      if (rows.length === 0) await move(lines, { onHand: 0, reserved: 1 });
      return rows.map((row) => row.product_id);
    },
  };
}

function tableOf(lines: readonly Line[]) {
  const productIds = lines.map(({ productId }) => productId);
  const quantities = lines.map(({ quantity }) => quantity);
  return sql`unnest(${productIds}::text[], ${quantities}::int8[]) AS line (product_id, quantity)`;
}

function stockOf(row: Selectable<StockTable>): Stock {
  return { productId: row.product_id, onHand: row.on_hand, reserved: row.reserved, available: row.on_hand - row.reserved };
}

function reservationOf(row: Selectable<ReservationTable>): Reservation {
  return {
    reservationId: row.reservation_id,
    state: ReservationState[row.state],
    lines: row.product_ids.map((productId, index) => ({ productId, quantity: BigInt(row.quantities[index] ?? 0) })),
    shortProductIds: row.short_product_ids,
    ...(row.expire_time !== null && { expireTime: timestampFromDate(row.expire_time) }),
  };
}
