import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { partPids, type Suite, startSuite, tokenFor } from "./suite.ts";

let suite: Suite;
let alice: string;
let staff: string;
beforeAll(async () => {
  suite = await startSuite();
  alice = await tokenFor(suite, "alice", "customer");
  staff = await tokenFor(suite, "bob", "staff");
});
afterAll(async () => {
  expect(await suite.stop()).toBe(0);
});

/** What the tests look at of an answer's JSON. */
interface Answer {
  readonly [field: string]: unknown;
  readonly products?: { productId: string }[];
  readonly lines?: { quantity: number }[];
  readonly etag?: string;
}

async function call(method: string, path: string, { token, body }: { token?: string; body?: unknown } = {}) {
  const response = await fetch(suite.gatewayUrl + path, {
    method,
    headers: { ...(token !== undefined && { authorization: `Bearer ${token}` }), "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const answer: Answer = JSON.parse(await response.text());
  return { status: response.status, answer };
}

async function readEvents(token: string): Promise<{ status: string; types: string[] }> {
  const url = `http://127.0.0.1:${suite.portOf("catalog")}/parley.events.v1.EventLogService/Read`;
  const args = ["curl", "--http2-prior-knowledge", "--protocol", "grpc", "-H", `authorization: Bearer ${token}`, "-d", "{}", url];
  const root = join(import.meta.dirname, "..");
  try {
    const { stdout } = await promisify(execFile)(join(root, "node_modules/.bin/buf"), args, { cwd: root });
    return { status: "ok", types: [...stdout.matchAll(/"@type": *"([^"]+)"/g)].map(([, type]) => type!) };
  } catch (error) {
    return { status: String(error), types: [] };
  }
}

test("a customer browses, searches and fills a cart, over REST", async () => {
  const home = await call("GET", "/v1/pages/home");
  expect(home).toMatchObject({ status: 200, answer: { greeting: "Hello, Microservice!" } });
  expect(home.answer.products).toHaveLength(8);
  expect((await call("GET", "/v1/products:search?query=kite")).answer.products?.[0]?.productId).toBe("kite");
  const { answer: page } = await call("GET", "/v1/pages/products/kite");
  expect(page).toMatchObject({ product: { title: "Kite" }, stock: { productId: "kite" } });
  expect(page).not.toHaveProperty("missingParts");
  const body = { productId: "kite", quantity: 2, requestId: randomUUID() };
  expect(await call("POST", "/v1/cart/items", { token: alice, body })).toMatchObject({
    status: 200,
    answer: { lines: [{ productId: "kite", quantity: 2 }] },
  });
  expect((await call("POST", "/v1/cart/items", { token: alice, body })).answer.lines?.[0]?.quantity).toBe(2);
  const { answer: set } = await call("PUT", "/v1/cart/items/tin-robot", { token: alice, body: { quantity: 5 } });
  expect(set.lines).toHaveLength(2);
  expect((await call("DELETE", `/v1/cart/items/tin-robot?etag=${set.etag}`, { token: alice })).answer.lines).toHaveLength(1);
});

test("staff changes a price over REST; the customer's cart shows it, and the log tells it", async () => {
  await call("PUT", "/v1/cart/items/kite", { token: alice, body: { quantity: 3 } });
  const body = { price: { currencyCode: "EUR", minorUnits: "1234" }, imagePath: "/images/kite.webp" };
  const updated = await call("PATCH", "/v1/products/kite?update_mask=price,image_path", { token: staff, body });
  expect(updated).toMatchObject({ status: 200, answer: { price: { minorUnits: "1234" }, title: "Kite" } });
  await call("PUT", "/v1/cart/items/kite", { token: alice, body: { quantity: 1 } });
  const { answer: cart } = await call("GET", "/v1/cart", { token: alice });
  expect(cart.lines?.[0]).toMatchObject({ isPriceChanged: true, price: { minorUnits: "1234" }, priceWhenAdded: { minorUnits: "2490" } });
  const created = await call("POST", "/v1/products", {
    token: staff,
    body: { productId: "straw-hat", title: "Straw Hat", price: { currencyCode: "EUR", minorUnits: "2900" }, categories: ["clothing"] },
  });
  expect(created).toMatchObject({ status: 200, answer: { productId: "straw-hat" } });
  expect(await call("PUT", "/v1/stock/straw-hat", { token: staff, body: { onHand: "7" } })).toMatchObject({ answer: { available: "7" } });
  expect(await call("POST", "/v1/products/straw-hat:archive", { token: staff, body: {} })).toMatchObject({
    answer: { state: "PRODUCT_STATE_ARCHIVED" },
  });
  const { types } = await readEvents(staff);
  expect(types.slice(-3)).toEqual(
    ["ProductUpdated", "ProductCreated", "ProductArchived"].map((type) => `type.googleapis.com/parley.catalog.v1.${type}`),
  );
});

test.each([[[]], [5], ["x"], [null], [[{ title: "evil" }]]])("a body that is %j is no product", async (body) => {
  expect((await call("PATCH", "/v1/products/tin-robot", { token: staff, body })).status).toBe(400);
  const both = await call("PATCH", "/v1/products/tin-robot?product.title=evil", { token: staff, body: { title: "Robot" } });
  expect([both.status, both.answer["message"]]).toEqual([400, expect.stringContaining("product.title: stands in the query")]);
});

test("without a token, or with that of somebody else, what is not public is refused", async () => {
  expect(await call("GET", "/v1/cart")).toMatchObject({ status: 401, answer: { code: 16 } });
  expect(await call("GET", "/v1/cart", { token: "nonsense" })).toMatchObject({ status: 401 });
  expect(await call("GET", "/v1/cart", { token: staff })).toMatchObject({ status: 403, answer: { code: 7 } });
  expect(await call("GET", "/v1/cart?customer_id=bob", { token: alice })).toMatchObject({ status: 403 });
  expect(await call("PUT", "/v1/stock/kite", { token: alice, body: { onHand: "1000" } })).toMatchObject({ status: 403 });
  expect((await readEvents(alice)).status).toContain("permission_denied");
});

test("what is for services alone is not for users, and event logs are not behind the gateway", async () => {
  const request = { reservationId: randomUUID(), lines: [{ productId: "kite", quantity: "1" }] };
  expect(await call("POST", "/parley.inventory.v1.InventoryService/Reserve", { token: staff, body: request })).toMatchObject({
    status: 403,
    answer: { code: "permission_denied" },
  });
  expect(await call("POST", "/parley.events.v1.EventLogService/Read", { token: staff, body: {} })).toMatchObject({ status: 404 });
});

test("a page comes without the part of a service that is down", async () => {
  const split = await startSuite({ args: ["--split"] });
  const [inventory = 0] = await partPids(split, "inventory");
  process.kill(inventory, "SIGSTOP");
  const page = await (await fetch(`${split.gatewayUrl}/v1/pages/products/kite`)).json();
  expect(page).toMatchObject({ product: { title: "Kite" }, missingParts: ["PAGE_PART_STOCK"] });
  process.kill(inventory, "SIGCONT");
  expect(await split.stop()).toBe(0);
});
