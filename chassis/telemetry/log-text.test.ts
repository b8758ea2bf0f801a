import { expect, test } from "vitest";
import { textOf } from "./log-text.ts";

const call = { timestamp: "2026-01-01T00:00:00.000Z", severity_text: "INFO", "service.name": "orders", trace_id: "1", request_id: "2" };

test.each([
  [
    "a call by its method and code",
    { body: "call", "rpc.method": "a.B/C", "rpc.response.status_code": "OK", duration_ms: 1.5 },
    "orders: a.B/C OK in 1.5 ms",
  ],
  [
    "a request by its path and status",
    {
      body: "request",
      "http.request.method": "GET",
      "url.path": "/x",
      "http.response.status_code": 200,
      "rpc.method": "a.B/C",
      duration_ms: 2,
    },
    "orders: GET /x 200 in 2 ms",
  ],
  ["work by its table", { body: "work", table: "payment", duration_ms: 3 }, "orders: work payment in 3 ms"],
  ["anything else by its body", { body: "ready" }, "orders: ready"],
])("%s", (_, line, text) => {
  expect(textOf({ ...call, ...line })).toMatch(text);
});

test("an error's stack stands below, and what would move a terminal's cursor is made visible", () => {
  const text = textOf({
    body: "failed",
    key: "k",
    "exception.message": "x",
    "exception.stacktrace": "Error: \u001b[2Jgone\n    at a.ts:1",
  });
  expect(text).toBe('failed {"key":"k"}\n  Error: \ufffd[2Jgone\n      at a.ts:1');
});
