import { z } from "zod";

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

const numberToken = z.object({ before: z.string().regex(/^\d{1,18}$/) });

/** Loads a page of a list that goes by falling numbers. Throws what `invalidToken` makes where the token is none of such a list. */
export async function loadPage<Row extends { readonly number: bigint }>(
  { pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string },
  load: (query: PageQuery) => Promise<readonly Row[]>,
  invalidToken: () => Error,
): Promise<{ rows: readonly Row[]; nextPageToken: string }> {
  const token = pageToken === "" ? undefined : decodePageToken(numberToken, pageToken);
  if (pageToken !== "" && token === undefined) throw invalidToken();
  const size = pageSizeOf(pageSize);
  // One more than asked for tells whether there is a next page.
  const rows = await load({ before: token && BigInt(token.before), limit: size + 1 });
  const last = rows.length > size ? rows[size - 1] : undefined;
  return { rows: rows.slice(0, size), nextPageToken: last === undefined ? "" : encodePageToken({ before: String(last.number) }) };
}
