import { query } from "../suite.ts";
import type { Quantities, Snapshot, Told } from "./checks.ts";

/** Reads what each database says, beside what clients were told and expect. */
export async function takeSnapshot(
  dataDir: string,
  { told, putIn, carts: expected }: { told: readonly Told[]; putIn: Quantities; carts: ReadonlyMap<string, Quantities> },
): Promise<Snapshot> {
  const stock = await query<{ productId: string; onHand: number; reserved: number }>(
    dataDir,
    "inventory",
    `SELECT product_id AS "productId", on_hand::float8 AS "onHand", reserved::float8 AS reserved FROM stock`,
  );
  const reservations = await query<{ reservationId: string; state: string; productIds: string[]; quantities: string[] }>(
    dataDir,
    "inventory",
    `SELECT reservation_id AS "reservationId", state, product_ids AS "productIds", quantities FROM reservation`,
  );
  const cartLines = await query<{ customerId: string; productId: string; quantity: number }>(
    dataDir,
    "carts",
    `SELECT customer_id AS "customerId", product_id AS "productId", quantity FROM cart_line`,
  );
  return {
    told,
    orders: await query(
      dataDir,
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
      dataDir,
      "payments",
      `SELECT payment_id AS "paymentId", order_id AS "orderId", state, charge_id AS "chargeId" FROM payment`,
    ),
    charges: await query(
      dataDir,
      "payments",
      `SELECT charge_id AS "chargeId", state, amount::float8 AS amount, refunded::float8 AS refunded FROM processor.charge`,
    ),
    ledger: await query(
      dataDir,
      "payments",
      `SELECT account, currency_code AS "currencyCode", sum(amount)::float8 AS amount FROM ledger_entry GROUP BY account, currency_code`,
    ),
    events: await query(
      dataDir,
      "orders",
      `SELECT position::float8 AS position, event_id AS "eventId", replace(type, 'parley.orders.v1.', '') AS type, subject AS "orderId"
       FROM event_log ORDER BY position`,
    ),
    notifications: await query(
      dataDir,
      "notifications",
      `SELECT notification_id AS "notificationId", order_id AS "orderId" FROM notification`,
    ),
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
            dataDir,
            consumer,
            `SELECT '${consumer}' AS consumer, position::float8 AS position, (SELECT count(*)::int FROM event_set_aside) AS "setAside"
             FROM event_cursor WHERE source = 'orders'`,
          ),
        ),
      )
    ).flat(),
  };
}
