import { decodePageToken, invalidPageToken } from "@parley/chassis/rpc/page.ts";
import { z } from "zod";
import { mostRanked } from "./store.ts";

/** Text that Postgres takes: it has no NUL. */
const text = z.string().regex(/^[^\0]*$/);

/** Where a page of a list of products ended, and of which list: the next one begins behind it. */
const listToken = z.object({
  order: z.number(),
  category: text,
  /** What the list is ordered by, of the page's last product. */
  key: text,
  productId: text,
});
export type ListToken = z.output<typeof listToken>;

/** How many products a search has told, of which query. */
const searchToken = z.object({ query: z.string(), offset: z.int().min(1).max(mostRanked), isSimilar: z.boolean() });
export type SearchToken = z.output<typeof searchToken>;

/** Reads a token of the list in that order and of that category. Throws `INVALID_PAGE_TOKEN` on any other text. */
export function decodeListToken(given: string, list: { order: number; category: string; isNumeric: boolean }): ListToken {
  const token = decodePageToken(listToken, given);
  const isOfList = token?.order === list.order && token.category === list.category;
  if (isOfList && (!list.isNumeric || /^\d{1,18}$/.test(token.key))) return token;
  throw invalidPageToken();
}

/** Reads a token of the search for that query. Throws `INVALID_PAGE_TOKEN` on any other text. */
export function decodeSearchToken(given: string, query: string): SearchToken {
  const token = decodePageToken(searchToken, given);
  if (token?.query === query) return token;
  throw invalidPageToken();
}
