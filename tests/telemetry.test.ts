import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { OrderState } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { SMTPServer } from "smtp-server";
import { expect, onTestFinished, test } from "vitest";
import { type CollectedSpan, openCollector } from "./collector.ts";
import { openCustomer } from "./customer.ts";
import { shopOf, startSuite } from "./suite.ts";

/** A mail server, and how much mail it has taken. */
async function openMailServer(): Promise<{ url: string; mails: () => number }> {
  let count = 0;
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ["STARTTLS"],
    onData(stream, _session, callback) {
      stream.resume().on("end", () => {
        count++;
        callback();
      });
    },
  });
  server.listen(0, "127.0.0.1");
  await once(server.server, "listening");
  onTestFinished(() => new Promise<void>((resolve) => server.close(resolve)));
  return { url: `smtp://127.0.0.1:${(server.server.address() as AddressInfo).port}`, mails: () => count };
}

test("one trace, and one request id, lead from the request of a checkout through the saga to the e-mail, in every service", async () => {
  const collector = await openCollector();
  onTestFinished(collector.close);
  const mail = await openMailServer();
  const suite = await startSuite({
    args: ["--split"],
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_LOGS_EXPORTER: "otlp", PARLEY_NOTIFICATIONS_SMTP_URL: mail.url },
  });
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
  const customer = await openCustomer(shopOf(suite), "ada");
  const cart = await customer.fill();
  Object.assign(customer.options.headers, { traceparent: `00-${traceId}-00f067aa0ba902b7-01`, "x-request-id": "checkout-1" });
  const order = await customer.place(cart);
  expect(order.state).toBe(OrderState.CONFIRMED);
  await eventually(() => expect(mail.mails()).toBe(1));
  expect(await suite.stop()).toBe(0);

  const spans = collector.spans.filter((span) => span.traceId === traceId);
  const ids = new Map(spans.map((span) => [span.spanId, span]));
  const orphans = spans.filter(({ parentSpanId }) => !ids.has(parentSpanId));
  expect(orphans.map(({ serviceName, name, parentSpanId }) => [serviceName, name, parentSpanId])).toEqual([
    ["gateway", "parley.orders.v1.OrdersService/PlaceOrder", "00f067aa0ba902b7"],
  ]);
  /** The way from a span up to the first, without statements. */
  const wayOf = (span: CollectedSpan | undefined): string[] =>
    span === undefined
      ? []
      : [...wayOf(ids.get(span.parentSpanId)), `${span.serviceName} ${span.kind} ${span.name.replace(/^parley\.\w+\.v1\./, "")}`];
  const find = (serviceName: string, name: string) => spans.find((span) => span.serviceName === serviceName && span.name.endsWith(name));
  const placed = [
    "gateway SERVER OrdersService/PlaceOrder",
    "gateway CLIENT OrdersService/PlaceOrder",
    "orders SERVER OrdersService/PlaceOrder",
  ];
  const worked = [...placed, "orders CONSUMER work customer_order"];
  expect(wayOf(find("payments", "PaymentsService/Capture"))).toEqual([
    ...worked.slice(0, 4),
    "orders CLIENT PaymentsService/Capture",
    "payments SERVER PaymentsService/Capture",
  ]);
  expect(wayOf(find("catalog", "CatalogService/BatchGetProducts"))).toEqual([
    ...placed,
    expect.stringMatching(/^orders CLIENT (CartsService\/GetCart|CatalogService\/BatchGetProducts)$/),
    ...Array.from({ length: wayOf(find("catalog", "CatalogService/BatchGetProducts")).length - 4 }, () => expect.any(String)),
  ]);
  expect(wayOf(find("notifications", "work notification"))).toEqual([
    ...worked,
    "notifications CONSUMER process parley.orders.v1.OrderConfirmed",
    "notifications CONSUMER work notification",
  ]);
  expect(wayOf(find("carts", "process parley.orders.v1.OrderConfirmed"))).toEqual([
    ...worked,
    "carts CONSUMER process parley.orders.v1.OrderConfirmed",
  ]);
  // What was handled together is linked with what led to it.
  const batch = collector.spans.find(({ serviceName, name }) => serviceName === "notifications" && name === "consume orders");
  expect(batch?.links.some((spanId) => ids.has(spanId))).toBe(true);
  // Statements, without values.
  const statements = spans.filter(({ attributes }) => attributes["db.system.name"] === "postgresql");
  for (const name of ["INSERT customer_order", "UPDATE payment", "INSERT notification"])
    expect(statements.map((span) => span.name)).toContain(name);
  expect(JSON.stringify(collector.spans)).not.toMatch(/ada@example|Main Street|tok_approved/);

  for (const serviceName of ["gateway", "orders", "carts", "inventory", "payments", "notifications"]) {
    const lines = collector.logs.filter((log) => log.serviceName === serviceName && JSON.stringify(log.attributes).includes(order.orderId));
    expect([serviceName, lines.length]).toEqual([serviceName, expect.toSatisfy((count: number) => count > 0)]);
    for (const { attributes } of lines) expect(attributes["request_id"]).toBe("checkout-1");
  }
});
