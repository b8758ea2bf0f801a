import type { JsonObject } from "@bufbuild/protobuf";
import { HttpRuleSchema } from "@parley/gen/google/api/http_pb.js";
import { HelloStreamRequestSchema } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { EchoRequestSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { setField } from "./fields-to-json.ts";

test.each([
  ["text", "a", { text: "a" }],
  ["numbers", "1", { numbers: ["1"] }],
  ["ending.crash", "true", { ending: { crash: true } }],
  ["ending.crash", "yes", { ending: { crash: "yes" } }],
  ["ending.code", "NOT_FOUND", { ending: { code: "NOT_FOUND" } }],
  ["ending.code", "5", { ending: { code: 5 } }],
  ["ending.delay", "1.5s", { ending: { delay: "1.5s" } }],
])("%s=%s", (path, text, expected) => {
  const json: JsonObject = {};
  setField(EchoRequestSchema, path, text, json);
  expect(json).toEqual(expected);
});

test("a repeated field gathers its values, any other keeps the last", () => {
  const json: JsonObject = {};
  for (const name of ["Ada", "Bob"]) setField(HelloStreamRequestSchema, "names", name, json);
  for (const count of ["1", "2"]) setField(HelloStreamRequestSchema, "count", count, json);
  expect(json).toEqual({ names: ["Ada", "Bob"], count: "2" });
});

test("a field goes by its JSON name too, and replaces what a body says under either", () => {
  const json: JsonObject = { response_body: "body" };
  setField(HttpRuleSchema, "responseBody", "path", json);
  expect(json).toEqual({ responseBody: "path" });
});

test("a field of a message in a body is set beside its others, under whichever name the body has it", () => {
  const json: JsonObject = { additional_bindings: [], custom: { kind: "HEAD" } };
  setField(HttpRuleSchema, "custom.path", "/x", json);
  expect(json).toEqual({ additional_bindings: [], custom: { kind: "HEAD", path: "/x" } });
});

test.each(["", "nothing", "__proto__", "ending", "ending.nothing", "text.inner", "numbers.0", "constructor.name"])(
  "%j is no field that a URL can set",
  (path) => {
    expect(() => setField(EchoRequestSchema, path, "x", {})).toThrow(/no such field/);
  },
);
