import { expect, test } from "vitest";
import { encodePageToken, loadPage, type PageQuery, pageSizeOf } from "./page.ts";

const rows = [5n, 4n, 3n, 2n, 1n].map((number) => ({ number }));
const load = async ({ before, limit }: PageQuery) => rows.filter(({ number }) => before === undefined || number < before).slice(0, limit);

test("a list goes by pages, each behind the one before, to its end", async () => {
  const seen: bigint[][] = [];
  let pageToken = "";
  do {
    const page = await loadPage("list", { pageSize: 2, pageToken }, load);
    seen.push(page.rows.map(({ number }) => number));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(seen).toEqual([[5n, 4n], [3n, 2n], [1n]]);
});

test("a page that is just full is the last where nothing follows", async () => {
  expect(await loadPage("list", { pageSize: 5, pageToken: "" }, load)).toEqual({ rows, nextPageToken: "" });
});

test.each([
  "nonsense",
  "e30",
  encodePageToken({ list: "list", before: "1; DROP TABLE" }),
  encodePageToken({ list: "list", before: 3 }),
  encodePageToken({ list: "another", before: "3" }),
])("%s is no token", async (pageToken) => {
  await expect(loadPage("list", { pageSize: 2, pageToken }, load)).rejects.toThrow("page_token is not one that this list gave out");
});

test("a page has 20 things where nobody says, and never more than 100", () => {
  expect([0, 1, 100, 5_000].map(pageSizeOf)).toEqual([20, 1, 100, 100]);
});
