import { expect, test } from "vitest";
import { parsePathTemplate } from "./path-template.ts";
import { createRouter } from "./router.ts";

const createTestRouter = (...templates: string[]) =>
  createRouter(
    templates.map((text) => {
      const [httpMethod = "", path = text] = text.split(" ");
      return { httpMethod: text.includes(" ") ? httpMethod : "GET", template: parsePathTemplate(path), text };
    }),
    ({ text }) => text,
  );

test.each([
  ["/api/hello", "/api/hello", []],
  ["/api/hello/{name}", "/api/hello/Ada", ["Ada"]],
  ["/api/hello/{name}", "/api/hello/a%2Fb%20c", ["a/b c"]],
  ["/v1/{order.order_id}/items/{item_id}", "/v1/7/items/8", ["7", "8"]],
  ["/v1/orders/{order_id}:cancel", "/v1/orders/7:cancel", ["7"]],
  ["/v1/orders/{order_id}:cancel", "/v1/orders/a:b:cancel", ["a:b"]],
  ["/v1/orders/{order_id}", "/v1/orders/7:cancel", ["7:cancel"]],
  ["/v1/orders:search", "/v1/orders:search", []],
  ["/v1/*/books", "/v1/7/books", []],
  ["/v1/{name=shelves/*/books/*}", "/v1/shelves/1/books/2", ["shelves/1/books/2"]],
  ["/v1/{name=shelves/*}/books", "/v1/shelves/a%20b%2Fc%2f/books", ["shelves/a b%2Fc%2f"]],
  ["/v1/{name=fixed}", "/v1/fixed", ["fixed"]],
  ["/v1/**", "/v1", []],
  ["/v1/**", "/v1/a/b/c", []],
  ["/v1/{path=**}", "/v1", [""]],
  ["/v1/{path=**}", "/v1/a/b%20c/d%2Fe", ["a/b c/d%2Fe"]],
  ["/v1/{path=files/**}", "/v1/files", ["files"]],
  ["/v1/{path=files/**}:read", "/v1/files/a/b:read", ["files/a/b"]],
  ["/a%20b", "/a%20b", []],
  ["/a-b", "/%61-b", []],
  ["/api/hello", "/api/hello/", undefined],
  ["/api/hello", "/api", undefined],
  ["/api/hello/{name}", "/api/hello/", undefined],
  ["/api/hello/{name}", "/api/hello/a/b", undefined],
  ["/api/hello/{name}", "/api/hello/%zz", undefined],
  ["/api/hello/{name}", "/api/hello/%ff", undefined],
  ["/v1/{path=**}", "/v1/a/%ff", undefined],
  ["/v1/{path=**}", "/v1/a//b", undefined],
  ["/v1/{path=**}", "/v1/", undefined],
  ["/v1/{name=shelves/*}", "/v1/shelves", undefined],
  ["/v1/{name=shelves/*}", "/v1/rooms/1", undefined],
  ["/v1/orders/{order_id}:cancel", "/v1/orders/7:ship", undefined],
  ["/v1/orders/{order_id}:cancel", "/v1/orders/:cancel", undefined],
  ["/v1/orders/{order_id}:cancel", "/v1/orders/7", undefined],
])("%s and %s", (template, path, values) => {
  expect(createTestRouter(template)(path).map((match) => match.values)).toEqual(values === undefined ? [] : [values]);
});

test("text comes before a variable, from the left, and a variable before many segments; what ends with a verb is nothing else", () => {
  const templates = ["/v1/**", "/v1/{a}/b", "/v1/{a}/{b}", "/v1/a/{b}", "/v1/a/b", "/v1/a/{b}:verb", "/v1/a/**", "/v1/{a}/**"];
  const find = createTestRouter(...templates);
  expect(find("/v1/a/b").map(({ route }) => route.text)).toEqual([
    "/v1/a/b",
    "/v1/a/{b}",
    "/v1/a/**",
    "/v1/{a}/b",
    "/v1/{a}/{b}",
    "/v1/{a}/**",
    "/v1/**",
  ]);
  expect(find("/v1/a/b:verb").map(({ route }) => route.text)).toEqual(["/v1/a/{b}:verb"]);
  expect(find("/v1/a/b:other")[0]?.route.text).toBe("/v1/a/{b}");
  expect(find("/v1/x/b")[0]?.route.text).toBe("/v1/{a}/b");
});

test("a route for any HTTP method comes after those for one, at the same path", () => {
  expect(createTestRouter("* /a", "GET /a", "PUT /a")("/a").map(({ route }) => route.httpMethod)).toEqual(["PUT", "GET", "*"]);
});

test.each([
  ["GET /a/{b}", "GET /a/{c}"],
  ["GET /a/{b=**}", "GET /a/**"],
  ["GET /a/{b=c/*}", "GET /a/c/{d}"],
  ["* /a", "* /a"],
])("%s and %s are the same route, and are refused", (one, other) => {
  expect(() => createTestRouter(one, other)).toThrow(`${one} and ${other} have the same route`);
});
