import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { EverythingSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { Validator } from "@seriousme/openapi-schema-validator";
import { expect, test } from "vitest";
import { services } from "../services/all.ts";
import { commentOf, firstSentenceOf } from "./comments.ts";
import { contractsOf, types } from "./contracts.ts";
import { createSchemas } from "./json-schema.ts";
import { createOpenApi } from "./openapi.ts";
import { openTestGateway } from "./testing.ts";

const greeter = createOpenApi(contractsOf("greeter"), types, "1.2.3");
const at = (json: JsonValue | undefined, ...path: string[]): JsonValue | undefined =>
  path.reduce<JsonValue | undefined>(
    (value, key) => (typeof value === "object" && value !== null ? (value as JsonObject)[key] : undefined),
    json,
  );

test("a gateway serves the document of its own contracts, which is valid OpenAPI 3.1", async () => {
  const { url } = await openTestGateway();
  const response = await fetch(`${url}/openapi.json`);
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/json"]);
  const document = JSON.parse(await response.text());
  expect(await new Validator().validate(document)).toMatchObject({ valid: true });
  expect(document.openapi).toBe("3.1.0");
  expect(Object.keys(document.paths)).toEqual([
    "/testing/echo/{text}",
    "/testing/echo",
    "/testing/echo:once",
    "/testing/repeat",
    "/testing/secret",
  ]);
});

test("an operation has its method's comment, deadline, access and parameters, with their rules as keywords", () => {
  expect(at(greeter, "paths", "/api/hello", "get")).toMatchObject({
    operationId: "GreeterService_Hello",
    tags: ["GreeterService"],
    summary: "Greets one person by name, or everybody where no name is given.",
    description: expect.stringMatching(/Who may call: anyone\. Deadline: 2 s\. May be repeated: yes\.$/),
    security: [],
    parameters: [
      {
        name: "name",
        in: "query",
        description: "Whom to greet, 1 to 64 characters without control characters. Not set: everybody.",
        schema: { type: "string", minLength: 1, maxLength: 64, pattern: "^[^\\x00-\\x1f\\x7f-\\x9f]*$", examples: ["Ada"] },
      },
    ],
  });
  expect(at(greeter, "paths", "/api/hello:stream", "get", "parameters")).toMatchObject([
    { name: "names", required: true, schema: { type: "array", minItems: 1, maxItems: 10, items: { maxLength: 64 } } },
    { name: "count", schema: { type: "integer", minimum: 1, maximum: 100 } },
    { name: "interval", schema: { type: "string" } },
  ]);
});

test("who may call is who the contract says, and what it may fail with is what its comment names", () => {
  const document = createOpenApi(contractsOf("orders"), types, "1");
  const cancel = at(document, "paths", "/v1/orders/{orderId}:cancel", "post");
  expect(at(cancel, "security")).toEqual([{ token: ["customer", "staff"] }]);
  expect(Object.keys(at(cancel, "responses") as JsonObject)).toEqual([
    "200",
    "400",
    "401",
    "403",
    "404",
    "429",
    "500",
    "503",
    "504",
    "default",
  ]);
  expect(at(cancel, "responses", "404", "description")).toBe(
    "- `ORDER_NOT_FOUND` (NOT_FOUND): There is no order of this id, or it is another customer's.",
  );
  expect(at(cancel, "responses", "400", "description")).toContain("`ORDER_SHIPPED` (FAILED_PRECONDITION): ");
  expect(at(cancel, "responses", "400", "description")).not.toContain("CART_EMPTY");
  expect(at(document, "components", "schemas", "parley.orders.v1.ErrorReason", "enum")).toContain("PRICE_CHANGED");
});

test("the body of a request has what is neither in the path nor in the query", () => {
  const document = createOpenApi(contractsOf("catalog"), types, "1");
  const update = at(document, "paths", "/v1/products/{productId}", "patch");
  expect(at(update, "parameters")).toMatchObject([
    { name: "productId", in: "path", required: true },
    { name: "updateMask", in: "query" },
  ]);
  const body = at(update, "requestBody", "content", "application/json", "schema", "properties") as JsonObject;
  expect(Object.keys(body)).toContain("title");
  expect(Object.keys(body)).not.toContain("productId");
  const archive = at(document, "paths", "/v1/products/{productId}:archive", "post", "requestBody");
  expect(at(archive, "required")).toBe(false);
  expect(Object.keys(at(archive, "content", "application/json", "schema", "properties") as JsonObject)).toEqual(["etag"]);
});

test("every reason of an area with REST forms is named by a method that fails with it", () => {
  const missing: string[] = [];
  for (const name of Object.keys(services)) {
    const contracts = contractsOf(name);
    const comments = contracts.flatMap(({ methods }) => methods.map(commentOf)).join("\n");
    const reasons = types.getEnum(`parley.${name}.v1.ErrorReason`)?.values.slice(1) ?? [];
    missing.push(
      ...reasons.filter(({ localName }) => !comments.includes(`\`${localName}\``)).map(({ localName }) => `${name}: ${localName}`),
    );
  }
  expect(missing).toEqual([]);
});

test("every text of a request that has a pattern has an example too, or the docs page makes one up", () => {
  const document = createOpenApi(Object.keys(services).flatMap(contractsOf), types, "1");
  const missing: string[] = [];
  const look = (json: JsonValue | undefined, place: string): void => {
    if (typeof json !== "object" || json === null) return;
    if (!Array.isArray(json) && typeof json["pattern"] === "string" && json["examples"] === undefined) missing.push(place);
    for (const [name, inner] of Object.entries(json)) look(inner, `${place} ${name}`);
  };
  look(document["paths"], "");
  look(at(document, "components", "schemas"), "");
  expect(missing).toEqual([]);
});

test("every kind of field has the schema of its JSON form", () => {
  const schemas = createSchemas();
  const { properties } = schemas.message(EverythingSchema) as { properties: JsonObject };
  expect(properties).toMatchObject({
    name: { type: "string" },
    revision: { type: "string", format: "int64" },
    sub: { $ref: "#/components/schemas/parley.testing.v1.Everything.Sub" },
    tags: { type: "array", items: { type: "string" } },
    color: { $ref: "#/components/schemas/parley.testing.v1.Color" },
    colors: { type: "array", items: { $ref: "#/components/schemas/parley.testing.v1.Color" } },
    flag: { type: "boolean" },
    ratio: { type: "number" },
    blob: { type: "string", contentEncoding: "base64" },
    createTime: { type: "string", format: "date-time" },
    delay: { type: "string" },
    updateMask: { type: "string" },
    maybeText: { type: ["string", "null"] },
    maybeFlag: { type: ["boolean", "null"] },
    count: { type: "integer", minimum: 0 },
  });
  expect(Object.keys(properties)).toEqual(EverythingSchema.fields.map(({ jsonName }) => jsonName));
  expect(schemas.message(EverythingSchema)["allOf"]).toEqual([{ not: { required: ["left", "right"] } }]);
  expect(schemas.components()["parley.testing.v1.Color"]).toMatchObject({ enum: ["COLOR_UNSPECIFIED", "COLOR_RED", "COLOR_GREEN"] });
});

test.each([
  ["Gets one. Safe.", "Gets one."],
  ["Waits for 2 s, e.g. here.", "Waits for 2 s, e.g. here."],
  ["Gets a\nthing", "Gets a\nthing"],
  ["", ""],
])("the first sentence of %j", (comment, sentence) => {
  expect(firstSentenceOf(comment)).toBe(sentence);
});
