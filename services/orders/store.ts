import { create, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { historyEntry } from "@parley/chassis/data/state-changes.ts";
import { type Claim, done, dueNow, type FirstLease, intervalOf, type WorkColumns } from "@parley/chassis/data/work.ts";
import type { PageQuery } from "@parley/chassis/rpc/page.ts";
import {
  type Address,
  AddressSchema,
  type Order,
  OrderLineSchema,
  OrderSchema,
  OrderState,
  RejectReason,
  type StuckOrder,
  StuckOrderSchema,
} from "@parley/gen/parley/orders/v1/orders_pb.js";
import { type ColumnType, type Generated, type GeneratedAlways, type Kysely, type RawBuilder, type Selectable, sql } from "kysely";
import { isOpen, type Line } from "./order.ts";

export interface Tables {
  customer_order: OrderTable;
}

interface OrderTable extends WorkColumns {
  order_id: string;
  number: GeneratedAlways<bigint>;
  customer_id: string;
  request_id: string;
  request_hash: string;
  cart_etag: string;
  state: ColumnType<keyof typeof OrderState, string, string>;
  reject_reason: ColumnType<keyof typeof RejectReason | null, never, string>;
  lines: ColumnType<JsonObject[], string, never>;
  total: bigint;
  currency_code: string;
  shipping_address: ColumnType<JsonObject, string, never>;
  payment_token: string | null;
  history: ColumnType<{ state: keyof typeof OrderState; time: string }[], string, string>;
  place_time: Generated<Date>;
  confirm_time: Generated<Date | null>;
  cancel_time: Generated<Date | null>;
}

/** An order that is placed. */
export interface NewOrder {
  readonly orderId: string;
  readonly customerId: string;
  readonly requestId: string;
  readonly requestHash: string;
  readonly cartEtag: string;
  readonly lines: readonly Line[];
  readonly total: Line["price"];
  readonly shippingAddress: Address;
  readonly paymentToken: string;
}

/** An order that a worker holds. */
export interface HeldOrder {
  readonly orderId: string;
  readonly customerId: string;
  readonly state: OrderState;
  readonly lines: readonly { readonly productId: string; readonly quantity: number }[];
  readonly total: Line["price"];
  /** Empty once it is not needed any more. */
  readonly paymentToken: string;
  /** Whether the checkout's deadline is over. */
  readonly isOverdue: boolean;
}

/** The orders in their database, or in one of its transactions. */
export interface Store {
  /** Adds an order, with the columns of its first lease; returns undefined where the request or the cart was ordered before. */
  insert(order: NewOrder, lease: FirstLease): Promise<Order | undefined>;
  find(orderId: string): Promise<Order | undefined>;
  /** Returns the order, which changes for nobody else until the transaction ends. */
  lock(orderId: string): Promise<Order | undefined>;
  findByRequest(customerId: string, requestId: string): Promise<{ order: Order; requestHash: string } | undefined>;
  /** Returns the id of the order for which a cart was used up. */
  findByCart(customerId: string, cartEtag: string): Promise<string | undefined>;
  /** Returns an order while its worker holds it. */
  findHeld(lease: Claim, timeoutMs: number): Promise<HeldOrder | undefined>;
  /** Brings an order from one state to another; returns undefined where it is in another state, or its worker has lost it. */
  move(
    orderId: string,
    change: { readonly from: OrderState; readonly to: OrderState; readonly attempt?: number; readonly reason?: RejectReason },
  ): Promise<Order | undefined>;
  /** Lists orders by falling numbers, of a customer where one is given. */
  list(query: PageQuery & { readonly customerId: string | undefined }): Promise<{ number: bigint; order: Order }[]>;
  /** Of these orders, lists those that have changed more often. */
  listChanged(changes: ReadonlyMap<string, number>): Promise<Order[]>;
  /** Lists orders on which work is to be done, for so long or after so many attempts. */
  listStuck(query: { minAgeMs: number; minAttempts: number }): Promise<StuckOrder[]>;
  countStuck(query: { minAgeMs: number; minAttempts: number }): Promise<number>;
  /** Makes an order due that has something left to be done; returns undefined where it has not. */
  makeDue(orderId: string): Promise<Order | undefined>;
}

export function createStore(db: Kysely<Tables>): Store {
  return {
    async insert(order, lease) {
      const lines = order.lines.map((line) => toJson(OrderLineSchema, create(OrderLineSchema, line)));
      const row = await db
        .insertInto("customer_order")
        .values({
          order_id: order.orderId,
          customer_id: order.customerId,
          request_id: order.requestId,
          request_hash: order.requestHash,
          cart_etag: order.cartEtag,
          state: "PENDING",
          lines: JSON.stringify(lines),
          total: order.total.minorUnits,
          currency_code: order.total.currencyCode,
          shipping_address: JSON.stringify(toJson(AddressSchema, order.shippingAddress)),
          payment_token: order.paymentToken,
          history: sql`jsonb_build_array(${historyEntry("PENDING")})`,
          ...lease,
        })
        .onConflict((conflict) => conflict.doNothing())
        .returningAll()
        .executeTakeFirst();
      return row && orderOf(row);
    },

    async find(orderId) {
      const row = await db.selectFrom("customer_order").selectAll().where("order_id", "=", orderId).executeTakeFirst();
      return row && orderOf(row);
    },

    async lock(orderId) {
      const row = await db.selectFrom("customer_order").selectAll().where("order_id", "=", orderId).forUpdate().executeTakeFirst();
      return row && orderOf(row);
    },

    async findByRequest(customerId, requestId) {
      const row = await db
        .selectFrom("customer_order")
        .selectAll()
        .where("customer_id", "=", customerId)
        .where("request_id", "=", requestId)
        .executeTakeFirst();
      return row && { order: orderOf(row), requestHash: row.request_hash };
    },

    async findByCart(customerId, cartEtag) {
      const row = await db
        .selectFrom("customer_order")
        .select("order_id")
        .where("customer_id", "=", customerId)
        .where("cart_etag", "=", cartEtag)
        .where(sql<boolean>`state <> 'REJECTED' AND (state <> 'CANCELLED' OR confirm_time IS NOT NULL)`)
        .executeTakeFirst();
      return row?.order_id;
    },

    async findHeld({ key, attempt }, timeoutMs) {
      const row = await db
        .selectFrom("customer_order")
        .selectAll()
        .select(sql<boolean>`place_time + ${intervalOf(timeoutMs)} < now()`.as("is_overdue"))
        .where("order_id", "=", key)
        .where("attempt", "=", attempt)
        .executeTakeFirst();
      if (row === undefined) return undefined;
      const { orderId, customerId, state, lines } = orderOf(row);
      const total = { currencyCode: row.currency_code, minorUnits: row.total };
      return { orderId, customerId, state, lines, total, paymentToken: row.payment_token ?? "", isOverdue: row.is_overdue };
    },

    async move(orderId, { from, to, attempt, reason }) {
      let query = db
        .updateTable("customer_order")
        .set({
          state: OrderState[to],
          history: sql<string>`history || ${historyEntry(OrderState[to])}`,
          ...(reason !== undefined && { reject_reason: RejectReason[reason] }),
          ...(to === OrderState.CONFIRMED && { confirm_time: sql`now()` }),
          ...(to === OrderState.CANCELLING && { cancel_time: sql`now()`, ...dueNow }),
          ...(!isOpen(to) && { ...done, payment_token: null }), // the token is kept no longer than it is needed
        })
        .where("order_id", "=", orderId)
        .where("state", "=", OrderState[from] as keyof typeof OrderState);
      if (attempt !== undefined) query = query.where("attempt", "=", attempt);
      const row = await query.returningAll().executeTakeFirst();
      return row && orderOf(row);
    },

    async list({ before, limit, customerId }) {
      let query = db.selectFrom("customer_order").selectAll().orderBy("number", "desc").limit(limit);
      if (before !== undefined) query = query.where("number", "<", before);
      if (customerId !== undefined) query = query.where("customer_id", "=", customerId);
      return (await query.execute()).map((row) => ({ number: row.number, order: orderOf(row) }));
    },

    async listChanged(changes) {
      const rows = await db
        .selectFrom("customer_order")
        .innerJoin(
          sql<{ watched_id: string; seen: number }>`unnest(${[...changes.keys()]}::uuid[], ${[...changes.values()]}::int[])`.as<"watched">(
            sql`watched (watched_id, seen)`,
          ),
          "watched_id",
          "order_id",
        )
        .selectAll("customer_order")
        .where(sql<boolean>`jsonb_array_length(history) > seen`)
        .execute();
      return rows.map(orderOf);
    },

    async listStuck(query) {
      const rows = await db
        .selectFrom("customer_order")
        .selectAll()
        .select(since.as("since_time"))
        .where(isStuck(query))
        .orderBy(since)
        .limit(100)
        .execute();
      return rows.map((row) =>
        create(StuckOrderSchema, {
          order: orderOf(row),
          attempt: row.attempt,
          sinceTime: timestampFromDate(row.since_time),
          dueTime: timestampFromDate(row.due_at ?? row.since_time),
        }),
      );
    },

    async countStuck(query) {
      const { count } = await db
        .selectFrom("customer_order")
        .select((eb) => eb.fn.countAll<bigint>().as("count"))
        .where(isStuck(query))
        .executeTakeFirstOrThrow();
      return Number(count);
    },

    async makeDue(orderId) {
      const row = await db
        .updateTable("customer_order")
        .set({ due_at: sql`now()` })
        .where("order_id", "=", orderId)
        .where("due_at", "is not", null)
        .returningAll()
        .executeTakeFirst();
      return row && orderOf(row);
    },
  };
}

/** Since when the checkout has something to do for an order. */
const since = sql<Date>`coalesce(cancel_time, place_time)`;

function isStuck({ minAgeMs, minAttempts }: { minAgeMs: number; minAttempts: number }): RawBuilder<boolean> {
  return sql`due_at IS NOT NULL AND (${since} <= now() - ${intervalOf(minAgeMs)} OR attempt >= ${minAttempts})`;
}

function orderOf(row: Selectable<OrderTable>): Order {
  const { lines, shippingAddress } = fromJson(OrderSchema, { lines: row.lines, shippingAddress: row.shipping_address });
  return create(OrderSchema, {
    orderId: row.order_id,
    customerId: row.customer_id,
    state: OrderState[row.state],
    rejectReason: row.reject_reason === null ? RejectReason.UNSPECIFIED : RejectReason[row.reject_reason],
    lines,
    total: { currencyCode: row.currency_code, minorUnits: row.total },
    ...(shippingAddress && { shippingAddress }),
    cartEtag: row.cart_etag,
    history: row.history.map(({ state, time }) => ({ state: OrderState[state], time: timestampFromDate(new Date(time)) })),
  });
}
