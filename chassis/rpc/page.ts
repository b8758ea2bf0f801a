import type { ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { z } from "zod";
import { fail } from "./errors.ts";

/** AIP-158: what is asked for beyond the most is cut, not refused. */
const pageSizes = { byDefault: 20, most: 100 };

/** Returns how many things a page has at most. */
export function pageSizeOf(given: number): number {
  return Math.min(given === 0 ? pageSizes.byDefault : given, pageSizes.most);
}

/** Returns a token as text, which means nothing to whoever gets it (AIP-158). */
export function encodePageToken(token: Readonly<Record<string, unknown>>): string {
  return Buffer.from(JSON.stringify(token)).toString("base64url");
}

/** Reads a token; undefined where it is any other text. */
export function decodePageToken<Token>(schema: z.ZodType<Token>, given: string): Token | undefined {
  try {
    return schema.safeParse(JSON.parse(Buffer.from(given, "base64url").toString())).data;
  } catch {
    return undefined;
  }
}

/** What a list's store is asked for: rows numbered below `before`, the highest first, at most `limit`. */
export interface PageQuery {
  readonly before: bigint | undefined;
  readonly limit: number;
}

const numberToken = z.object({ list: z.string(), before: z.string().regex(/^\d{1,18}$/) });

/** Makes the error of a page token that is not one of a list. */
export function invalidPageToken(): ConnectError {
  return fail(ErrorReason.INVALID_PAGE_TOKEN, "page_token is not one that this list gave out: begin without it");
}

/**
 * Loads a page of a list that goes by falling numbers. `list` tells lists apart, by all that the
 * request filters by. Throws `INVALID_PAGE_TOKEN` where the token is not one of the list.
 */
export async function loadPage<Row extends { readonly number: bigint }>(
  list: string,
  { pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string },
  load: (query: PageQuery) => Promise<readonly Row[]>,
): Promise<{ rows: readonly Row[]; nextPageToken: string }> {
  const token = pageToken === "" ? undefined : decodePageToken(numberToken, pageToken);
  if (pageToken !== "" && token?.list !== list) throw invalidPageToken();
  const size = pageSizeOf(pageSize);
  // One more than asked for tells whether there is a next page.
  const rows = await load({ before: token && BigInt(token.before), limit: size + 1 });
  const last = rows.length > size ? rows[size - 1] : undefined;
  const nextPageToken = last === undefined ? "" : encodePageToken({ list, before: String(last.number) });
  return { rows: rows.slice(0, size), nextPageToken };
}
