import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { origin } from "@parley/chassis/data/origin.ts";
import { type Claim, done, type WorkColumns } from "@parley/chassis/data/work.ts";
import type { PageQuery } from "@parley/chassis/rpc/page.ts";
import { type NotificationSchema, NotificationState } from "@parley/gen/parley/notifications/v1/notifications_pb.js";
import { type ColumnType, type Generated, type GeneratedAlways, type Kysely, type Selectable, sql } from "kysely";

export interface Tables {
  notification: NotificationTable;
}

interface NotificationTable extends WorkColumns {
  notification_id: string;
  number: GeneratedAlways<bigint>;
  customer_id: string;
  order_id: string;
  email: string;
  subject: string;
  body: string;
  state: ColumnType<Exclude<keyof typeof NotificationState, "UNSPECIFIED">>;
  create_time: Generated<Date>;
  send_time: Generated<Date | null>;
}

/** What is to be told, and to whom. */
export interface NewNotification {
  readonly notificationId: string;
  readonly customerId: string;
  readonly orderId: string;
  readonly email: string;
  readonly subject: string;
  readonly body: string;
}

/** The notifications in their database, or in one of its transactions. */
export interface Store {
  /** Adds a notification that is to be sent, or is kept to be read, unless there is one of this id. */
  insert(notification: NewNotification, state: "PENDING" | "KEPT"): Promise<void>;
  /** Returns a notification while its worker holds it. */
  findHeld(lease: Claim): Promise<NewNotification | undefined>;
  /** Ends the sending of a notification, unless its worker has lost it. */
  end(lease: Claim, state: "SENT" | "REFUSED"): Promise<void>;
  /** Lists notifications by falling numbers, of a customer where one is given. */
  list(
    query: PageQuery & { readonly customerId: string | undefined },
  ): Promise<{ number: bigint; notification: MessageInitShape<typeof NotificationSchema> }[]>;
}

export function createStore(db: Kysely<Tables>): Store {
  return {
    async insert({ notificationId, customerId, orderId, ...text }, state) {
      await db
        .insertInto("notification")
        .values({
          notification_id: notificationId,
          customer_id: customerId,
          order_id: orderId,
          ...text,
          state,
          due_at: state === "PENDING" ? sql`now()` : null,
          ...origin(),
        })
        .onConflict((conflict) => conflict.column("notification_id").doNothing())
        .execute();
    },

    async findHeld({ key, attempt }) {
      const row = await db
        .selectFrom("notification")
        .selectAll()
        .where("notification_id", "=", key)
        .where("attempt", "=", attempt)
        .where("state", "=", "PENDING")
        .executeTakeFirst();
      if (row === undefined) return undefined;
      const { notification_id: notificationId, customer_id: customerId, order_id: orderId, email, subject, body } = row;
      return { notificationId, customerId, orderId, email, subject, body };
    },

    async end({ key, attempt }, state) {
      await db
        .updateTable("notification")
        .set({ state, ...(state === "SENT" && { send_time: sql`now()` }), ...done })
        .where("notification_id", "=", key)
        .where("attempt", "=", attempt)
        .where("state", "=", "PENDING")
        .execute();
    },

    async list({ before, limit, customerId }) {
      let query = db.selectFrom("notification").selectAll().orderBy("number", "desc").limit(limit);
      if (before !== undefined) query = query.where("number", "<", before);
      if (customerId !== undefined) query = query.where("customer_id", "=", customerId);
      return (await query.execute()).map((row) => ({ number: row.number, notification: notificationOf(row) }));
    },
  };
}

function notificationOf(row: Selectable<NotificationTable>): MessageInitShape<typeof NotificationSchema> {
  return {
    notificationId: row.notification_id,
    customerId: row.customer_id,
    orderId: row.order_id,
    email: row.email,
    subject: row.subject,
    body: row.body,
    state: NotificationState[row.state],
    createTime: timestampFromDate(row.create_time),
    ...(row.send_time !== null && { sendTime: timestampFromDate(row.send_time) }),
  };
}
