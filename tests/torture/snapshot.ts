import { setTimeout as delay } from "node:timers/promises";
import type { Shop } from "../suite.ts";
import type { Quantities, Snapshot, Told } from "./checks.ts";

/** Reads what each database says, beside what clients were told and expect. */
export async function takeSnapshot(
  { query }: Pick<Shop, "query">,
  { told, putIn, carts: expected }: { told: readonly Told[]; putIn: Quantities; carts: ReadonlyMap<string, Quantities> },
): Promise<Snapshot> {
  const stock = await query<{ productId: string; onHand: number; reserved: number }>(
    "inventory",
    `SELECT product_id AS "productId", on_hand::float8 AS "onHand", reserved::float8 AS reserved FROM stock`,
  );
  const reservations = await query<{ reservationId: string; state: string; productIds: string[]; quantities: string[] }>(
    "inventory",
    `SELECT reservation_id AS "reservationId", state, product_ids AS "productIds", quantities FROM reservation`,
  );
  const cartLines = await query<{ customerId: string; productId: string; quantity: number }>(
    "carts",
    `SELECT customer_id AS "customerId", product_id AS "productId", quantity FROM cart_line`,
  );
  return {
    told,
    orders: await query(
      "orders",
      `SELECT order_id AS "orderId", customer_id AS "customerId", request_id AS "requestId", state, total::float8 AS total,
         (SELECT array_agg(change ->> 'state' ORDER BY number) FROM jsonb_array_elements(history) WITH ORDINALITY AS each (change, number)) AS history
       FROM customer_order`,
    ),
    stock: stock.flatMap((row) => (row.productId in putIn ? [{ ...row, putIn: putIn[row.productId] ?? 0 }] : [])),
    reservations: reservations.map(({ reservationId, state, productIds, quantities }) => ({
      reservationId,
      state,
      lines: productIds.map((productId, index) => ({ productId, quantity: Number(quantities[index]) })),
    })),
    payments: await query(
      "payments",
      `SELECT payment_id AS "paymentId", order_id AS "orderId", state, charge_id AS "chargeId" FROM payment`,
    ),
    charges: await query(
      "payments",
      `SELECT charge_id AS "chargeId", state, amount::float8 AS amount, refunded::float8 AS refunded FROM processor.charge`,
    ),
    ledger: await query(
      "payments",
      `SELECT account, currency_code AS "currencyCode", sum(amount)::float8 AS amount FROM ledger_entry GROUP BY account, currency_code`,
    ),
    events: await query(
      "orders",
      `SELECT position::float8 AS position, event_id AS "eventId", replace(type, 'parley.orders.v1.', '') AS type, subject AS "orderId"
       FROM event_log ORDER BY position`,
    ),
    notifications: await query("notifications", `SELECT notification_id AS "notificationId", order_id AS "orderId" FROM notification`),
    carts: [...expected].map(([customerId, quantities]) => ({
      customerId,
      expected: quantities,
      found: Object.fromEntries(
        cartLines.filter((line) => line.customerId === customerId).map(({ productId, quantity }) => [productId, quantity]),
      ),
    })),
    cursors: (
      await Promise.all(
        ["carts", "notifications"].map((consumer) =>
          query<{ consumer: string; position: number; setAside: number }>(
            consumer,
            `SELECT '${consumer}' AS consumer, position::float8 AS position, (SELECT count(*)::int FROM event_set_aside) AS "setAside"
             FROM event_cursor WHERE source = 'orders'`,
          ),
        ),
      )
    ).flat(),
  };
}

/** Waits until nothing is left to be done and all events were read; returns false where that takes too long. */
export async function waitForQuiet({ query }: Pick<Shop, "query">, untilMs: number): Promise<boolean> {
  const tables = { orders: "customer_order", payments: "payment", notifications: "notification" };
  while (performance.now() < untilMs) {
    try {
      const due = await Promise.all(
        Object.entries(tables).map(([name, table]) =>
          query<{ count: number }>(name, `SELECT count(*)::int AS count FROM ${table} WHERE due_at IS NOT NULL`),
        ),
      );
      const [head] = await query<{ position: string }>("orders", "SELECT position FROM event_log_head");
      const cursors = await Promise.all(
        ["carts", "notifications"].map((name) => query<{ position: string }>(name, "SELECT position FROM event_cursor")),
      );
      if (due.flat().every(({ count }) => count === 0) && cursors.flat().every(({ position }) => position === head?.position)) return true;
    } catch {} // Postgres is being started again
    await delay(100);
  }
  return false;
}
