import type { JsonObject } from "@bufbuild/protobuf";
import { HttpRuleSchema } from "@parley/gen/google/api/http_pb.js";
import { CollectionsSchema, EverythingSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { findUrlField, jsonPathOf, listUrlFields, setUrlField } from "./url-field.ts";

test("a field is set under its JSON name, and replaces what a body says under either", () => {
  const json: JsonObject = { response_body: "body" };
  setUrlField(json, findUrlField(HttpRuleSchema, "responseBody")!, ["path"]);
  expect(json).toEqual({ responseBody: "path" });
});

test("a field of a message in a body is set beside its others, under whichever name the body has it", () => {
  const json: JsonObject = { additional_bindings: [], custom: { kind: "HEAD" } };
  setUrlField(json, findUrlField(HttpRuleSchema, "custom.path")!, ["/x"]);
  expect(json).toEqual({ additional_bindings: [], custom: { kind: "HEAD", path: "/x" } });
});

test.each(["", "nothing", "__proto__", "sub", "sub.nothing", "name.inner", "tags.0", "constructor.name", "sub.", ".name"])(
  "%j is no field that a URL can set",
  (path) => {
    expect(findUrlField(EverythingSchema, path)).toBeUndefined();
  },
);

test("all fields of a single value are listed, those of inner messages too, until a message holds itself", () => {
  const paths = listUrlFields(EverythingSchema, new Set(["name", "sub.subfield"])).map(jsonPathOf);
  expect(paths).toContain("createTime");
  expect(paths).toContain("sub.everything.maybeFlag");
  expect(paths).not.toContain("name");
  expect(paths).not.toContain("sub.subfield");
  expect(paths.filter((path) => path.split(".").length > 3)).toEqual([]);
});

test.each([
  ["items", new Set<string>(["labels"])],
  ["labels", new Set<string>(["items"])],
])("that %s has more than one value is told, where no other part of the request has it", (field, bound) => {
  expect(() => listUrlFields(CollectionsSchema, bound)).toThrow(`no query can set its field ${field}`);
});
