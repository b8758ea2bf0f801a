import { cors } from "@connectrpc/connect";
import type { NodeRequest, NodeResponse } from "./node-request.ts";

const allowedMethods = [...new Set([...cors.allowedMethods, "PUT", "PATCH", "DELETE"])].join(", ");
const allowedHeaders = [
  ...cors.allowedHeaders,
  "authorization",
  "baggage",
  "if-none-match",
  "traceparent",
  "tracestate",
  "x-request-id",
].join(", ");
const exposedHeaders = [...cors.exposedHeaders, "etag", "retry-after", "x-request-id"].join(", ");
/** How long browsers remember a preflight's answer, in seconds: the most that Chromium allows. */
const maxAge = "7200";

/**
 * Lets pages of the given origins call the gateway (Fetch Standard, CORS protocol), and answers
 * their preflights. Returns whether the request was one, and is answered.
 */
export function answerCors(request: NodeRequest, response: NodeResponse, origins: ReadonlySet<string>): boolean {
  response.setHeader("vary", "origin, accept-encoding"); // without an origin too: a cache must not give that answer to a page
  const origin = request.headers["origin"];
  if (typeof origin !== "string") return false;
  const allowed = origins.has(origin);
  if (allowed) {
    response.setHeader("access-control-allow-origin", origin);
    response.setHeader("access-control-expose-headers", exposedHeaders);
  }
  if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined) return false;
  if (allowed) {
    response.setHeader("access-control-allow-methods", allowedMethods);
    response.setHeader("access-control-allow-headers", allowedHeaders);
    response.setHeader("access-control-max-age", maxAge);
  }
  response.writeHead(204);
  response.end();
  return true;
}
