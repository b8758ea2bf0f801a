import { create } from "@bufbuild/protobuf";
import { PlaceOrderRequestSchema, PlaceOrderResponseSchema } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { expect, test } from "vitest";
import { addIds } from "./interceptors/about.ts";
import { toShownJson } from "./redact.ts";

const request = create(PlaceOrderRequestSchema, {
  requestId: "0191e0a4-5f7e-7cc1-8a62-3f0a0c5f9d12",
  cartEtag: "7",
  paymentToken: "tok_secret",
  shippingAddress: { name: "Ada", street: "Main Street 1", email: "ada@example.org", city: "Berlin", countryCode: "DE" },
});

test("what a contract marks debug_redact is not shown, in messages within messages neither", () => {
  const shown = toShownJson(PlaceOrderRequestSchema, request);
  expect(shown).toContain('"cartEtag":"7"');
  for (const secret of ["tok_secret", "Ada", "Main Street", "ada@example.org"]) expect(shown).not.toContain(secret);
  expect(request.paymentToken).toBe("tok_secret"); // the message itself stays whole
});

test("a message is about its own ids and those of the resource that it holds, not those by which it can be repeated, cut where they are long", () => {
  const about = new Map<string, string>();
  addIds(about, PlaceOrderRequestSchema, request);
  expect([...about]).toEqual([]); // its request_id is no such id
  addIds(
    about,
    PlaceOrderResponseSchema,
    create(PlaceOrderResponseSchema, { order: { orderId: "order-1", customerId: "c".repeat(5_000) } }),
  );
  expect([...about]).toEqual([
    ["order_id", "order-1"],
    ["customer_id", "c".repeat(128)],
  ]);
});
