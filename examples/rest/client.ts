// A client of the gateway's REST, with types made from its own document. See README.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.d.ts";

const [baseUrl = "http://127.0.0.1:8080", token = ""] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${token}` } });

const greeting = await client.GET("/api/hello/{name}", { params: { path: { name: "Ada" } } });
process.stdout.write(`${greeting.data?.message}\n`);

const cart = await client.PUT("/v1/cart/items/{productId}", { params: { path: { productId: "kite" } }, body: { quantity: 2 } });
if (cart.error !== undefined) throw new Error(cart.error.message);
process.stdout.write(
  `${cart.data.lines?.length} line in the cart, ${cart.data.total?.minorUnits} ${cart.data.total?.currencyCode} minor units\n`,
);

const request: components["schemas"]["parley.orders.v1.PlaceOrderRequest"] = {
  requestId: crypto.randomUUID(),
  cartEtag: cart.data.etag ?? "",
  expectedTotal: { currencyCode: cart.data.total?.currencyCode ?? "", minorUnits: "1" },
  paymentToken: "tok_approved",
  shippingAddress: {
    name: "Ada",
    street: "Main Street 1",
    postalCode: "12345",
    city: "Berlin",
    countryCode: "DE",
    email: "ada@example.org",
  },
};
const refused = await client.POST("/v1/orders", { body: request });
const [info] = refused.error?.details ?? [];
const reason = info?.["reason"] as components["schemas"]["parley.orders.v1.ErrorReason"];
process.stdout.write(`${refused.response.status} ${reason}: ${refused.error?.message}\n`);

const total = { currencyCode: request.expectedTotal.currencyCode, minorUnits: cart.data.total?.minorUnits ?? "" };
const order = await client.POST("/v1/orders", { body: { ...request, expectedTotal: total } });
process.stdout.write(`${order.data?.state}\n`);
