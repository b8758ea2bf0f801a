import { expect, test } from "vitest";
import { summaryOf } from "./statement-span.ts";

test.each([
  ['select * from "product" where "product_id" = $1', "SELECT product"],
  ["INSERT INTO event_cursor (source) SELECT $1", "INSERT event_cursor"],
  ["UPDATE customer_order SET state = $1", "UPDATE customer_order"],
  ["delete from cart_line", "DELETE cart_line"],
  [
    "/* with commit */ WITH head AS (UPDATE event_log_head SET position = position + 1 RETURNING position) INSERT INTO event_log SELECT 1",
    "UPDATE event_log_head",
  ],
  ["WITH due AS MATERIALIZED (SELECT key FROM payment) UPDATE payment SET attempt = 1", "UPDATE payment"],
  ["WITH words AS (SELECT 1) SELECT * FROM words", "SELECT words"],
  ["SELECT 1", "SELECT"],
  ["commit", "COMMIT"],
])("the statement %j is summed up as %s", (text, summary) => {
  expect(summaryOf(text)).toBe(summary);
});
