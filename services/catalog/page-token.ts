import { ErrorReason, ProductOrder } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { z } from "zod";
import { fail } from "./errors.ts";

/** Text that Postgres takes: it has no NUL. */
const text = z.string().regex(/^[^\0]*$/);
const content = z.object({ order: z.number(), category: text, key: text, productId: text });

/** Where a page of a list ended, and of which list: the next one begins behind it. */
export interface PageToken {
  readonly order: ProductOrder;
  readonly category: string;
  /** What the list is ordered by, of the page's last product. */
  readonly key: string;
  readonly productId: string;
}

/** Returns a token as text, which means nothing to whoever gets it (AIP-158). */
export function encodePageToken(token: PageToken): string {
  return Buffer.from(JSON.stringify(token)).toString("base64url");
}

/** Reads a token of the list in that order and of that category. Throws `INVALID_PAGE_TOKEN` on any other text. */
export function decodePageToken(given: string, order: ProductOrder, category: string): PageToken {
  const token = content.safeParse(parse(Buffer.from(given, "base64url").toString()));
  const isOfList = token.success && token.data.order === order && token.data.category === category;
  if (isOfList && (order === ProductOrder.TITLE || /^\d{1,18}$/.test(token.data.key))) return { ...token.data, order };
  throw fail(ErrorReason.INVALID_PAGE_TOKEN, "page_token is not one of this list, in this order and of this category; begin without it");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
