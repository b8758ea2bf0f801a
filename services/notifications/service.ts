import { optionalUrl, text } from "@parley/chassis/config.ts";
import { startConsumer } from "@parley/chassis/data/consumer.ts";
import { defineDatabase } from "@parley/chassis/data/database.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService } from "@parley/chassis/service.ts";
import { EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { NotificationsService } from "@parley/gen/parley/notifications/v1/notifications_pb.js";
import { createEventHandlers } from "./consumer.ts";
import { startDelivery } from "./delivery.ts";
import { createHandlers } from "./handlers.ts";
import type { Tables } from "./store.ts";

export const notificationsDatabase = defineDatabase<Tables>({ migrations: new URL("./migrations/", import.meta.url) });

/** What customers are told of their orders. */
export const notifications = defineService({
  name: "notifications",
  config: {
    PARLEY_NOTIFICATIONS_SMTP_URL: optionalUrl({
      protocols: ["smtp", "smtps"],
      description: "Mail server that e-mail is sent by, such as smtps://user:password@host",
      otherwise: "kept, to be read",
      secret: true,
    }),
    PARLEY_NOTIFICATIONS_FROM: text("Parley <orders@localhost>", "Who mail is from"),
  },
  neighbours: { orders: [EventLogService] },
  database: notificationsDatabase,
  async start({ config, database, client, log }) {
    const smtpUrl = config.PARLEY_NOTIFICATIONS_SMTP_URL;
    const delivery = smtpUrl === undefined ? undefined : startDelivery({ database, smtpUrl, from: config.PARLEY_NOTIFICATIONS_FROM, log });
    const consumer = await startConsumer({
      database,
      log,
      sources: { orders: { client: client("orders", EventLogService), handlers: createEventHandlers(delivery?.wake) } },
    });
    return {
      handlers: [implement(NotificationsService, createHandlers({ database }))],
      background: [consumer, ...(delivery === undefined ? [] : [delivery])],
    };
  },
});
