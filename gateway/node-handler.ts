import type { ContextValues } from "@connectrpc/connect";
import type { UniversalHandlerFn, UniversalServerRequest } from "@connectrpc/connect/protocol";
import { type connectNodeAdapter, universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Logger } from "pino";

/** What node:http and node:http2 both call: connect-node has the type, but no name for it. */
export type NodeHandler = ReturnType<typeof connectNodeAdapter>;
export type NodeRequest = Parameters<NodeHandler>[0];
export type NodeResponse = Parameters<NodeHandler>[1];

/** Answers a request of Node's with a handler of Connect's. Never throws: an answer that cannot be given is a closed connection. */
export async function answer(
  request: NodeRequest,
  response: NodeResponse,
  { handler, contextValues, log }: { handler: UniversalHandlerFn; contextValues: ContextValues; log: Logger },
): Promise<void> {
  // connect-node stops listening when the response closes, and Node tells the error of an HTTP/1.1 request after that.
  request.on("error", () => {});
  let universal: UniversalServerRequest;
  try {
    universal = universalRequestFromNodeRequest(request, response, undefined, contextValues);
  } catch {
    return refuse(request, response, 400, "the request names no valid host and path\n");
  }
  const [path = ""] = request.url?.split("?", 1) ?? [];
  // A proxy in front may decide by the path as it is: no other spelling of it (`//`, `..`, `\\`) is taken.
  if (path.startsWith("/") && path !== new URL(universal.url).pathname)
    return refuse(request, response, 400, "the path is not in its normal form\n");
  try {
    await universalResponseToNodeResponse(await handler(universal), response);
  } catch (error) {
    if (universal.signal.aborted || response.headersSent) return void request.destroy(); // the client is gone
    log.error({ err: error, url: request.url }, "a request could not be answered");
    refuse(request, response, 500, "internal error\n");
  }
}

/** Refuses the request with 408 (RFC 9110, section 15.5.9) where its body, if it has one, is not all here in time. */
export function limitBodyTime(request: NodeRequest, response: NodeResponse, timeoutMs: number): void {
  if (!hasBody(request)) return;
  const timer = setTimeout(() => {
    if (!response.headersSent) refuse(request, response, 408, "the request's body took too long\n");
  }, timeoutMs);
  for (const event of ["end", "close"]) request.once(event, () => clearTimeout(timer));
}

/** Nobody reads a body that there is not, so its end would never be seen. */
function hasBody(request: NodeRequest): boolean {
  if ("stream" in request) return !request.stream.endAfterHeaders;
  const { "content-length": length, "transfer-encoding": encoding } = request.headers;
  return encoding !== undefined || (length !== undefined && length !== "0");
}

/** Answers without a handler, and ends the request however much of it is still to come. */
function refuse(request: NodeRequest, response: NodeResponse, status: number, text: string): void {
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    ...(request.httpVersionMajor === 1 && { connection: "close" }),
  });
  response.end(text, () => request.destroy());
}
