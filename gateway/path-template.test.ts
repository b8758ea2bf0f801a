import { expect, test } from "vitest";
import { parsePathTemplate } from "./path-template.ts";

test.each([
  ["/api/hello", [{ literal: "api" }, { literal: "hello" }], [], ""],
  ["/v1/{name}", [{ literal: "v1" }, "*"], [{ field: "name", start: 1, end: 2 }], ""],
  ["/v1/{name=*}", [{ literal: "v1" }, "*"], [{ field: "name", start: 1, end: 2 }], ""],
  ["/v1/*/**", [{ literal: "v1" }, "*", "**"], [], ""],
  [
    "/v1/{name=shelves/*/books/*}",
    [{ literal: "v1" }, ...literals("shelves", "*", "books", "*")],
    [{ field: "name", start: 1, end: 5 }],
    "",
  ],
  ["/v1/{name=files/**}:read", [...literals("v1", "files", "**")], [{ field: "name", start: 1, end: 3 }], "read"],
  ["/{name=fixed}", [{ literal: "fixed" }], [{ field: "name", start: 0, end: 1 }], ""],
  [
    "/v1/{order.order_id}/{item_id}",
    literals("v1", "*", "*"),
    [
      { field: "order.order_id", start: 1, end: 2 },
      { field: "item_id", start: 2, end: 3 },
    ],
    "",
  ],
  ["/v1/orders:search", literals("v1", "orders"), [], "search"],
  ["/a%20b/c%2Fd", [{ literal: "a b" }, { literal: "c/d" }], [], ""],
  ["/~a/$b@c", literals("~a", "$b@c"), [], ""],
])("%s is read by the grammar of http.proto", (text, segments, variables, verb) => {
  expect(parsePathTemplate(text)).toEqual({ segments, variables, verb });
});

test.each([
  ["", ""],
  ["/", ""],
  ["api/hello", ""],
  ["/a//b", ""],
  ["/a/", ""],
  ["/a b", "a b"],
  ["/a:", "a:"],
  ["/a:b:c", "a:b"],
  ["/**/a", "** is not its last segment"],
  ["/{a=**}/b", "** is not its last segment"],
  ["/{a=**/b}", "** is not its last segment"],
  ["/{a}/{a=b}", "two variables a"],
  ["/{a={b}}", "{a={b}}"],
  ["/{a", "{a"],
  ["/a}", "a}"],
  ["/{a}{b}", "{a}{b}"],
  ["/x{a}", "x{a}"],
  ["/{}", "{}"],
  ["/{1a}", "{1a}"],
  ["/{a=}", "{a=}"],
  ["/{a=b//c}", '""'],
  ["/%zz", "%zz"],
  ["/%ff", "%ff"],
])("%s is refused, with what is wrong", (text, why) => {
  expect(() => parsePathTemplate(text)).toThrow(`${text} is no path template: `);
  expect(() => parsePathTemplate(text)).toThrow(why);
});

function literals(...segments: string[]) {
  return segments.map((segment) => (segment === "*" || segment === "**" ? segment : { literal: segment }));
}
