import type { Database } from "@parley/chassis/data/database.ts";
import { startWork, type Worker } from "@parley/chassis/data/work.ts";
import { createTransport } from "nodemailer";
import type { Logger } from "pino";
import { createStore, type Tables } from "./store.ts";

/** The time that a mail server may take for each answer, in milliseconds. */
const smtpTimeoutMs = 10_000;
/** The time that all of them for one mail may take, in milliseconds. */
const mailTimeoutMs = 30_000;

/**
 * Starts to send what is to be sent, at least once, with a Message-ID that stays the same: so a mail
 * system that sees it twice can tell. What the server refuses for good for its recipient or its contents
 * is not sent again; all else is.
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
      const { notificationId, email: address, subject, body: text } = notification;
      const signal = AbortSignal.any([lease.signal, AbortSignal.timeout(mailTimeoutMs)]);
      const mail = { from, to: { name: "", address }, subject, text, messageId: `<${notificationId}@parley>`, signal };
      try {
        await transport.sendMail(mail);
      } catch (error) {
        const { code, command, responseCode, response } = answerOf(error);
        // Of its recipient or its contents (RFC 3463, 5.1, 5.2 and 5.6), not of us, such as a wrong password or a blocked address.
        const enhanced = /^\d{3}[ -]5\.(\d+)\./.exec(response)?.[1];
        const isOfMail = enhanced === undefined ? [550, 551, 553].includes(responseCode) : ["1", "2", "6"].includes(enhanced);
        const isRefused = (command === "RCPT TO" || code === "EMESSAGE") && responseCode >= 500 && isOfMail;
        // Not the error itself: it tells the address.
        if (!isRefused) throw new Error(`the mail server did not take a mail: ${code} ${command} ${responseCode}`);
        log.warn({ notification_id: notificationId, command, code: responseCode }, "the mail server refuses a notification for good");
        return store.end(lease, "REFUSED");
      }
      await store.end(lease, "SENT");
    },
  });
}

/** Returns what is known of why a mail was not taken. */
function answerOf(error: unknown): { code: string; command: string; responseCode: number; response: string } {
  const { code, command, responseCode, response }: Readonly<Record<string, unknown>> = Object(error);
  return { code: String(code), command: String(command), responseCode: Number(responseCode ?? 0), response: String(response) };
}
