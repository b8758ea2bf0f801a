import { expect, test } from "vitest";
import { comparePathTemplates, matchPath, parsePathTemplate } from "./path-template.ts";

test.each([
  ["/api/hello", "/api/hello", []],
  ["/api/hello/{name}", "/api/hello/Ada", ["Ada"]],
  ["/api/hello/{name=*}", "/api/hello/Ada", ["Ada"]],
  ["/api/hello/{name}", "/api/hello/a%2Fb%20c", ["a/b c"]],
  ["/v1/{order.order_id}/items/{item_id}", "/v1/7/items/8", ["7", "8"]],
  ["/v1/orders/{order_id}:cancel", "/v1/orders/7:cancel", ["7"]],
  ["/v1/orders/{order_id}", "/v1/orders/7:cancel", ["7:cancel"]],
  ["/v1/orders:search", "/v1/orders:search", []],
  ["/api/hello", "/api/hello/", undefined],
  ["/api/hello", "/api", undefined],
  ["/api/hello/{name}", "/api/hello/", undefined],
  ["/api/hello/{name}", "/api/hello/a/b", undefined],
  ["/api/hello/{name}", "/api/hello/%zz", undefined],
  ["/v1/orders/{order_id}:cancel", "/v1/orders/7:ship", undefined],
  ["/v1/orders/{order_id}:cancel", "/v1/orders/:cancel", undefined],
])("%s and %s", (template, path, values) => {
  expect(matchPath(parsePathTemplate(template), path)).toEqual(values);
});

test.each(["api/hello", "/a/*", "/a/**", "/{name=shelves/*}", "/{name=**}", "/a//b", "/a/{Name}", "/a b", "/a:", "/a:b:c"])(
  "%s is not supported, and says so",
  (template) => {
    expect(() => parsePathTemplate(template)).toThrow(`the path template ${template} is not supported`);
  },
);

test("literal segments come before variables, from the left, and verbs before none", () => {
  const templates = ["/v1/{a}/b", "/v1/{a}/{b}", "/v1/a/{b}", "/v1/a/b", "/v1/a/{b}:verb"];
  const sorted = templates.map(parsePathTemplate).toSorted(comparePathTemplates);
  expect(sorted).toEqual(["/v1/a/b", "/v1/a/{b}:verb", "/v1/a/{b}", "/v1/{a}/b", "/v1/{a}/{b}"].map(parsePathTemplate));
});
