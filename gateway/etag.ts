import { hash } from "node:crypto";
import { createAsyncIterable, type UniversalServerRequest, type UniversalServerResponse } from "@connectrpc/connect/protocol";

/**
 * Lets clients ask again only for what has changed (RFC 9110, section 13): an answer to GET has an
 * `etag` of its contents, and is 304 without them where the client has it. Caches on the way keep
 * nothing: what somebody sees may be for them alone.
 */
export async function withEtag(
  { method, header }: UniversalServerRequest,
  answer: UniversalServerResponse,
): Promise<UniversalServerResponse> {
  if (method !== "GET" && method !== "HEAD") return answer;
  const headers = new Headers(answer.header);
  if (!headers.has("cache-control")) headers.set("cache-control", "private, no-cache");
  const isWhole = headers.has("content-length"); // unlike a stream
  if (answer.status !== 200 || !isWhole || answer.body === undefined) return { ...answer, header: headers };
  const chunks = await Array.fromAsync(answer.body);
  const bytes = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
  const etag = `"${hash("sha256", bytes, "base64url")}"`;
  headers.set("etag", etag);
  if (!isKnown(etag, header.get("if-none-match"))) return { ...answer, header: headers, body: createAsyncIterable([bytes]) };
  for (const name of ["content-type", "content-length", "content-encoding"]) headers.delete(name);
  return { status: 304, header: headers };
}

/** Tags are compared weakly, as a proxy that compresses answers makes them (RFC 9110, section 13.1.2). */
function isKnown(etag: string, ifNoneMatch: string | null): boolean {
  if (ifNoneMatch === null) return false;
  return ifNoneMatch.split(",").some((text) => ["*", etag].includes(text.trim().replace(/^W\//, "")));
}
