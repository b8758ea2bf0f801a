import { setStateChanges } from "@parley/chassis/data/state-changes.ts";
import { addWorkColumns } from "@parley/chassis/data/work.ts";
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // The id is that of the event: so each event is told once.
  await sql`CREATE TABLE notification (
    notification_id uuid PRIMARY KEY,
    number int8 GENERATED ALWAYS AS IDENTITY UNIQUE,
    customer_id text NOT NULL,
    order_id uuid NOT NULL,
    email text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    state text NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    send_time timestamptz
  )`.execute(db);
  await sql`CREATE INDEX notification_by_customer ON notification (customer_id, number)`.execute(db);
  await setStateChanges(db, "notification", { KEPT: [], PENDING: ["SENT", "REFUSED"], SENT: [], REFUSED: [] });
  await addWorkColumns(db, "notification");
}
