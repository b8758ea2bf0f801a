import { create } from "@bufbuild/protobuf";
import { PlaceOrderRequestSchema } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { expect, test } from "vitest";
import { addIds } from "./ids.ts";
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

test("a message is about the ids of its fields, and not about the id by which it can be repeated", () => {
  const about = new Map<string, string>();
  addIds(about, PlaceOrderRequestSchema, request);
  expect([...about]).toEqual([]);
});
