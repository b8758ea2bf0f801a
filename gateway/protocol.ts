import type { NodeRequest } from "./node-request.ts";

/** What a client speaks. REST is what is left: nothing marks it. */
export type Protocol = "grpc" | "grpc-web" | "connect" | "connect-stream" | "rest";

/**
 * Returns what a request's client speaks, by its content type, and of Connect's unary calls by the version
 * in their header or query (Connect protocol, Unary-Request), which a client may leave out.
 */
export function protocolOf({ headers, url = "" }: NodeRequest): Protocol {
  const type = headers["content-type"] ?? "";
  if (type.startsWith("application/grpc-web")) return "grpc-web";
  if (type.startsWith("application/grpc")) return "grpc";
  if (type.startsWith("application/connect+")) return "connect-stream";
  return headers["connect-protocol-version"] !== undefined || /[?&]connect=v1(&|$)/.test(url) ? "connect" : "rest";
}
