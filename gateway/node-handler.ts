import type { ContextValues } from "@connectrpc/connect";
import type { UniversalHandlerFn } from "@connectrpc/connect/protocol";
import { type connectNodeAdapter, universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";

/** What node:http and node:http2 both call: connect-node has the type, but no name for it. */
export type NodeHandler = ReturnType<typeof connectNodeAdapter>;
export type NodeRequest = Parameters<NodeHandler>[0];
export type NodeResponse = Parameters<NodeHandler>[1];

/** Answers a request of Node's with a handler of Connect's. Never throws: an answer that cannot be given is a closed connection. */
export async function answer(
  request: NodeRequest,
  response: NodeResponse,
  handler: UniversalHandlerFn,
  contextValues: ContextValues,
): Promise<void> {
  try {
    const universal = await handler(universalRequestFromNodeRequest(request, response, undefined, contextValues));
    await universalResponseToNodeResponse(universal, response);
  } catch {
    // The client is gone, or named no valid host.
    if (response.headersSent) request.destroy();
    else refuse(request, response, 400, "bad request\n");
  }
}

/** Answers without a handler, and ends the request however much of it is still to come. */
export function refuse(request: NodeRequest, response: NodeResponse, status: number, text: string): void {
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    ...(request.httpVersionMajor === 1 && { connection: "close" }),
  });
  response.end(text, () => request.destroy());
}

/** Refuses the request with 408 (RFC 9110, section 15.5.9) where its body is not all here in time. */
export function limitBodyTime(request: NodeRequest, response: NodeResponse, timeoutMs: number): void {
  const timer = setTimeout(() => {
    if (!response.headersSent) refuse(request, response, 408, "the request's body took too long\n");
  }, timeoutMs);
  for (const event of ["end", "close"]) request.once(event, () => clearTimeout(timer));
}
