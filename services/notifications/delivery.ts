import type { Database } from "@parley/chassis/data/database.ts";
import { startWork, type Worker } from "@parley/chassis/data/work.ts";
import { createTransport } from "nodemailer";
import type { Logger } from "pino";
import { createStore, type Tables } from "./store.ts";

/** The time that a mail server may take for each answer, in milliseconds. */
const smtpTimeoutMs = 10_000;

/**
 * Starts to send what is to be sent, at least once, with a Message-ID that stays the same: so a mail
 * system that sees it twice can tell. What the server refuses for good (RFC 5321, 5yz) is not sent again.
 */
export function startDelivery({
  database,
  smtpUrl,
  from,
  log,
}: {
  readonly database: Database<Tables>;
  readonly smtpUrl: string;
  readonly from: string;
  readonly log: Logger;
}): Worker {
  const transport = createTransport({
    url: smtpUrl,
    connectionTimeout: smtpTimeoutMs,
    greetingTimeout: smtpTimeoutMs,
    socketTimeout: smtpTimeoutMs,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  const store = createStore(database.db);
  return startWork({
    database,
    table: "notification",
    key: "notification_id",
    log,
    async handle(lease) {
      const notification = await store.findHeld(lease);
      if (notification === undefined) return;
      const { notificationId, email, subject, body } = notification;
      try {
        await transport.sendMail({ from, to: { name: "", address: email }, subject, text: body, messageId: `<${notificationId}@parley>` });
      } catch (error) {
        if (!isRefusal(error)) throw error;
        log.warn({ notification_id: notificationId, code: error.responseCode }, "the mail server refuses a notification for good");
        return store.end(lease, "REFUSED");
      }
      await store.end(lease, "SENT");
    },
  });
}

/** Whether the server refuses this mail, by its recipient or its contents; what it says of us, such as a wrong password, passes. */
function isRefusal(error: unknown): error is Error & { responseCode: number } {
  if (!(error instanceof Error && "code" in error && "responseCode" in error)) return false;
  const isOfMail = error.code === "EENVELOPE" || error.code === "EMESSAGE";
  return isOfMail && typeof error.responseCode === "number" && error.responseCode >= 500;
}
