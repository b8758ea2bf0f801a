import { randomUUID } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { startConsumer } from "@parley/chassis/data/consumer.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { asService, asUser } from "@parley/chassis/testing/auth.ts";
import { openTestDatabase } from "@parley/chassis/testing/database.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { failureOf } from "@parley/chassis/testing/failure.ts";
import { createNeighbour, createTestLog, openTestServer, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { type Event, EventLogService, EventSchema } from "@parley/gen/parley/events/v1/events_pb.js";
import { NotificationsService, NotificationState as State } from "@parley/gen/parley/notifications/v1/notifications_pb.js";
import {
  OrderCancelledSchema,
  OrderConfirmedSchema,
  OrderPlacedSchema,
  OrderRejectedSchema,
  OrderShippedSchema,
  OrderState,
  RejectReason,
} from "@parley/gen/parley/orders/v1/orders_pb.js";
import { sql } from "kysely";
import { SMTPServer } from "smtp-server";
import { expect, onTestFinished, test } from "vitest";
import { createEventHandlers } from "./consumer.ts";
import { startDelivery } from "./delivery.ts";
import { createHandlers } from "./handlers.ts";
import { notificationsDatabase } from "./service.ts";

const schemas = {
  OrderPlaced: OrderPlacedSchema,
  OrderConfirmed: OrderConfirmedSchema,
  OrderRejected: OrderRejectedSchema,
  OrderCancelled: OrderCancelledSchema,
  OrderShipped: OrderShippedSchema,
};
const states = {
  OrderPlaced: OrderState.PENDING,
  OrderConfirmed: OrderState.CONFIRMED,
  OrderRejected: OrderState.REJECTED,
  OrderCancelled: OrderState.CANCELLED,
  OrderShipped: OrderState.SHIPPED,
};

/** Makes the events of orders, one after the other. */
function eventsOf(
  ...made: [type: keyof typeof schemas, overrides?: { customerId?: string; email?: string; rejectReason?: RejectReason }][]
): Event[] {
  return made.map(([type, { customerId = "alice", email = "alice@example.org", rejectReason = RejectReason.UNSPECIFIED } = {}], index) => {
    const orderId = randomUUID();
    const order = {
      orderId,
      customerId,
      state: states[type],
      rejectReason,
      lines: [{ productId: "kite", title: "Kite", quantity: 2, price: { currencyCode: "EUR", minorUnits: 2_490n } }],
      total: { currencyCode: "EUR", minorUnits: 4_980n },
      shippingAddress: { name: "Alice Example", street: "Main Street 1", city: "Berlin", countryCode: "DE", email },
    };
    const schema = schemas[type];
    return create(EventSchema, {
      eventId: randomUUID(),
      type: schema.typeName,
      source: "orders",
      subject: orderId,
      position: BigInt(index + 1),
      payload: { typeUrl: `type.googleapis.com/${schema.typeName}`, value: toBinary(schema, create(schema, { order })) },
    });
  });
}

/** Notifications that read these events, and send what they write by a mail server, if there is one. */
async function openNotifications(events: readonly Event[], smtpUrl?: string) {
  const database = await openTestDatabase(notificationsDatabase);
  const { log, logs } = createTestLog();
  const delivery = smtpUrl === undefined ? undefined : startDelivery({ database, smtpUrl, from: "Parley <orders@parley.test>", log });
  if (delivery !== undefined) onTestFinished(() => delivery.stop());
  const orders = createNeighbour(EventLogService, {
    async *read({ afterPosition }, { signal }) {
      for (const event of events) if (event.position > afterPosition) yield { event };
      if (!signal.aborted) await once(signal, "abort");
    },
  });
  const consume = async () => {
    const sources = { orders: { client: createClient(EventLogService, orders), handlers: createEventHandlers(delivery?.wake) } };
    const consumer = await startConsumer({ database, log, sources });
    onTestFinished(() => consumer.stop());
    return consumer;
  };
  const { port } = await openTestServer([implement(NotificationsService, createHandlers({ database }))]);
  const client = createClient(NotificationsService, openTestTransport([port]));
  const staff = await asUser("eve", "staff");
  const list = async (as = staff) => (await client.listNotifications({}, as)).notifications;
  return { database, client, staff, consume, list, logs };
}

interface Mail {
  readonly to: string[];
  readonly text: string;
}

/** A mail server, which may refuse a recipient, or lose a mail for a while. */
async function openMailServer(
  answers: { refuse?: (recipient: string) => number | undefined; password?: string } = {},
): Promise<{ url: string; mails: Mail[] }> {
  const mails: Mail[] = [];
  const server = new SMTPServer({
    authOptional: answers.password === undefined,
    allowInsecureAuth: true,
    disabledCommands: ["STARTTLS"],
    onAuth: ({ password }, _session, callback) =>
      password === answers.password
        ? callback(null, { user: "shop" })
        : callback(Object.assign(new Error("refused"), { responseCode: 535 })),
    onRcptTo({ address }, _session, callback) {
      const responseCode = answers.refuse?.(address);
      const text = responseCode === 554 ? "5.7.1 blocked" : "refused";
      callback(responseCode === undefined ? null : Object.assign(new Error(`${text}: ${address}`), { responseCode }));
    },
    onData(stream, { envelope }, callback) {
      let text = "";
      stream.on("data", (chunk) => {
        text += chunk;
      });
      stream.on("end", () => {
        mails.push({ to: envelope.rcptTo.map(({ address }) => address), text });
        callback();
      });
    },
  });
  server.on("error", () => {});
  server.listen(0, "127.0.0.1");
  await once(server.server, "listening");
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())));
  return { url: `smtp://127.0.0.1:${(server.server.address() as AddressInfo).port}`, mails };
}

test("without a mail server, what is told of each order that is confirmed, rejected, cancelled or shipped can be read", async () => {
  const events = eventsOf(
    ["OrderPlaced"],
    ["OrderConfirmed"],
    ["OrderRejected", { rejectReason: RejectReason.OUT_OF_STOCK }],
    ["OrderCancelled"],
    ["OrderShipped"],
  );
  const { consume, list } = await openNotifications(events);
  await consume();
  await eventually(async () => expect(await list()).toHaveLength(4));
  const notifications = (await list()).toReversed();
  expect(notifications.map(({ notificationId }) => notificationId)).toEqual(events.slice(1).map(({ eventId }) => eventId));
  expect(notifications).toMatchObject([
    { state: State.KEPT, email: "alice@example.org", customerId: "alice", subject: expect.stringMatching(/is confirmed$/) },
    { body: expect.stringContaining("something of it is out of stock. You have not been charged.") },
    { subject: expect.stringMatching(/is cancelled$/) },
    { subject: expect.stringMatching(/is shipped$/) },
  ]);
  expect(notifications[0]!.body).toBe(
    "Hello Alice Example,\n\nWe have received your payment of €49.80, and are packing your order.\n\n  2 x Kite, €24.90 each\n\nTotal: €49.80\n",
  );
});

test("an event that is read twice is told once", async () => {
  const { consume, list, database } = await openNotifications(eventsOf(["OrderConfirmed"], ["OrderShipped"]));
  const first = await consume();
  await eventually(async () => expect(await list()).toHaveLength(2));
  await first.stop();
  await consume();
  await eventually(async () =>
    expect((await sql<{ due: boolean }>`SELECT leased_until > now() AS due FROM event_cursor`.execute(database.db)).rows).toEqual([
      { due: true },
    ]),
  );
  expect(await list()).toHaveLength(2);
});

test("an event that cannot be told is set aside with the later ones of its order; others are told", async () => {
  // eShop acknowledges and loses it.
  const [broken, later, good] = eventsOf(["OrderConfirmed"], ["OrderShipped"], ["OrderConfirmed"]);
  const nonsense = create(EventSchema, { ...broken!, payload: create(AnySchema, { value: new Uint8Array([0xff]) }) });
  const { consume, list, database } = await openNotifications([
    nonsense,
    create(EventSchema, { ...later!, subject: broken!.subject }),
    good!,
  ]);
  await consume();
  await eventually(async () => expect(await list()).toMatchObject([{ notificationId: good!.eventId }]));
  const { rows } = await sql`SELECT position FROM event_set_aside ORDER BY position`.execute(database.db);
  expect(rows).toEqual([{ position: 1n }, { position: 2n }]);
});

test("mail is sent with what was ordered, to whom it is for, under an id that is the event's", async () => {
  const { url, mails } = await openMailServer();
  const events = eventsOf(["OrderConfirmed"]);
  const { consume, list } = await openNotifications(events, url);
  await consume();
  await eventually(async () => expect(await list()).toMatchObject([{ state: State.SENT, sendTime: { seconds: expect.anything() } }]));
  expect(mails).toMatchObject([{ to: ["alice@example.org"] }]);
  const { text } = mails[0]!;
  expect(text).toContain(`Message-ID: <${events[0]!.eventId}@parley>`);
  expect(text).toMatch(/^From: Parley <orders@parley.test>\r$/m);
  expect(text).toContain("2 x Kite");
});

test("mail that a server does not take for now is sent later, under the same id", async () => {
  let refusals = 2;
  const { url, mails } = await openMailServer({ refuse: () => (refusals-- > 0 ? 451 : undefined) });
  const events = eventsOf(["OrderConfirmed"]);
  const { consume, list, logs } = await openNotifications(events, url);
  await consume();
  await eventually(async () => expect((await list())[0]?.state).toBe(State.SENT));
  expect(JSON.stringify(logs)).not.toContain("alice@example.org"); // which the server's answer tells
  expect(mails).toHaveLength(1);
  expect(mails[0]!.text).toContain(`<${events[0]!.eventId}@parley>`);
});

test("mail that a server refuses for good is not sent again, and holds up no other", async () => {
  const { url, mails } = await openMailServer({ refuse: (recipient) => (recipient.startsWith("nobody") ? 550 : undefined) });
  const { consume, list, logs } = await openNotifications(
    eventsOf(["OrderConfirmed", { email: "nobody@example.org" }], ["OrderConfirmed"]),
    url,
  );
  await consume();
  await eventually(async () => expect((await list()).map(({ state }) => state)).toEqual([State.SENT, State.REFUSED]));
  expect(mails).toMatchObject([{ to: ["alice@example.org"] }]);
  expect(JSON.stringify(logs)).not.toContain("nobody@example.org");
});

test("a password that the server does not take says nothing of the mail, which waits", async () => {
  const { url, mails } = await openMailServer({ password: "right" });
  const { consume, list, logs } = await openNotifications(eventsOf(["OrderConfirmed"]), url.replace("//", "//shop:wrong@"));
  await consume();
  await eventually(() => expect(logs.some(({ body }) => body === "work failed; trying again")).toBe(true));
  expect((await list())[0]?.state).toBe(State.PENDING);
  expect([mails, JSON.stringify(logs).includes("wrong")]).toEqual([[], false]);
});

test("mail waits where the server blocks us, though it says so of the recipient", async () => {
  const { url } = await openMailServer({ refuse: () => 554 });
  const { consume, list, logs } = await openNotifications(eventsOf(["OrderConfirmed"]), url);
  await consume();
  await eventually(() => expect(logs.some(({ body }) => body === "work failed; trying again")).toBe(true));
  expect((await list())[0]?.state).toBe(State.PENDING);
});

test("mail waits for a server that is away", async () => {
  const { url } = await openMailServer();
  const away = url.replace(/\d+$/, "1");
  const { consume, list, logs } = await openNotifications(eventsOf(["OrderConfirmed"]), away);
  await consume();
  await eventually(() => expect(logs.some(({ body }) => body === "work failed; trying again")).toBe(true));
  expect((await list())[0]?.state).toBe(State.PENDING);
});

test("customers see what they were told, staff and services all, a page at a time", async () => {
  const { client, consume, list } = await openNotifications(
    eventsOf(["OrderConfirmed"], ["OrderConfirmed", { customerId: "bob" }], ["OrderShipped"], ["OrderCancelled"]),
  );
  await consume();
  await eventually(async () => expect(await list()).toHaveLength(4));
  const alice = await asUser("alice", "customer");
  const page = await client.listNotifications({ pageSize: 2 }, alice);
  const rest = await client.listNotifications({ pageSize: 2, pageToken: page.nextPageToken }, alice);
  expect([...page.notifications, ...rest.notifications].map(({ customerId }) => customerId)).toEqual(["alice", "alice", "alice"]);
  expect(rest.nextPageToken).toBe("");
  expect(await list(await asService())).toHaveLength(4);
  const error = await failureOf(client.listNotifications({ pageToken: "x" }, alice));
  expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.InvalidArgument, "INVALID_PAGE_TOKEN"]);
  expect((await failureOf(client.listNotifications({ pageSize: -1 }, alice))).code).toBe(Code.InvalidArgument);
  expect((await failureOf(client.listNotifications({}))).code).toBe(Code.Unauthenticated);
});
