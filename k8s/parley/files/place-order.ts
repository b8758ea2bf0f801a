// Places an order through the gateway, waits until it is confirmed, and reads it back, as a customer whose
// token it signs itself. It exits with 1, and says why, where that does not go as it should.
import { createPrivateKey, randomUUID, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

const [gatewayUrl = "", keyFile = "", issuer = "", audience = ""] = process.argv.slice(2);
const jwk = JSON.parse(readFileSync(keyFile, "utf8"));
const customer = `helm-test-${randomUUID()}`;
const deadlineMs = Date.now() + 60_000;

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const seconds = Math.floor(Date.now() / 1_000);
const claims = { iss: issuer, aud: audience, sub: customer, roles: ["customer"], iat: seconds, exp: seconds + 600 };
const signed = `${encode({ alg: "ES256", kid: jwk.kid })}.${encode(claims)}`;
const signature = sign("sha256", Buffer.from(signed), { key: createPrivateKey({ key: jwk, format: "jwk" }), dsaEncoding: "ieee-p1363" });
const authorization = `Bearer ${signed}.${signature.toString("base64url")}`;

interface Order {
  readonly orderId: string;
  readonly state: string;
}

/** Throws where the answer is an error. */
async function call<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
  const response = await fetch(new URL(path, gatewayUrl), {
    method,
    headers: { authorization, "content-type": "application/json" },
    signal: AbortSignal.timeout(10_000),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

async function findInStock(): Promise<string> {
  const { products } = await call<{ products: { productId: string }[] }>("GET", "/v1/products?page_size=50");
  for (const { productId } of products) {
    const { available = "0" } = await call<{ available?: string }>("GET", `/v1/stock/${productId}`);
    if (Number(available) > 0) return productId;
  }
  throw new Error("nothing is in stock");
}

const productId = await findInStock();
const cart = await call<{ etag: string; total: unknown }>("PUT", `/v1/cart/items/${productId}`, { quantity: 1 });
let order = await call<Order>("POST", "/v1/orders", {
  requestId: randomUUID(),
  cartEtag: cart.etag,
  paymentToken: "tok_approved",
  expectedTotal: cart.total,
  shippingAddress: {
    name: customer,
    street: "Main Street 1",
    postalCode: "12345",
    city: "Berlin",
    countryCode: "DE",
    email: "helm@example.org",
  },
});
while (order.state === "ORDER_STATE_PENDING") {
  if (Date.now() > deadlineMs) throw new Error(`the order ${order.orderId} is still pending after a minute`);
  await delay(500);
  order = await call<Order>("GET", `/v1/orders/${order.orderId}`);
}
if (order.state !== "ORDER_STATE_CONFIRMED") throw new Error(`the order ${order.orderId} is ${order.state}`);
const { orders } = await call<{ orders: Order[] }>("GET", "/v1/orders");
if (String(orders.map(({ orderId }) => orderId)) !== order.orderId) throw new Error("the customer's list has not the order alone");
process.stdout.write(`the order ${order.orderId} of ${productId} is confirmed\n`);
