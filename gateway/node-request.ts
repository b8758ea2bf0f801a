import { constants } from "node:http2";
import type { connectNodeAdapter } from "@connectrpc/connect-node";

/** What node:http and node:http2 both call: connect-node has the type, but no name for it. */
export type NodeHandler = ReturnType<typeof connectNodeAdapter>;
export type NodeRequest = Parameters<NodeHandler>[0];
export type NodeResponse = Parameters<NodeHandler>[1];

/** When to try again to end a stream. */
const cutAgainMs = 1_000;

/**
 * Returns the path of a request, of an absolute URL too (RFC 9112, section 3.2.2), without its query, which
 * may hold a token.
 */
export function pathOf({ url = "" }: NodeRequest): string {
  return url.replace(/^https?:\/\/[^/?#]*/i, "").split(/[?#]/, 1)[0] ?? "";
}

/** Whether nobody waits for the answer any more, nor would hear of it. */
export function isGone(response: NodeResponse): boolean {
  return "stream" in response ? response.stream.destroyed || response.stream.closed : response.destroyed || response.req.socket.destroyed;
}

/** Whether a body was announced. Nobody reads one that there is not, so its end would never be seen. */
export function hasBody(request: NodeRequest): boolean {
  if ("stream" in request) return !request.stream.endAfterHeaders;
  const { "content-length": length, "transfer-encoding": encoding } = request.headers;
  return encoding !== undefined || (length !== undefined && length !== "0");
}

/** Whether all of the request is here. */
export function isComplete(request: NodeRequest): boolean {
  return "stream" in request ? request.stream.destroyed || request.stream.state.remoteClose === 1 : request.complete;
}

/** Returns how much of what was sent is still here, for the client takes no more; of HTTP/2, Node tells it nowhere else. */
export function unsentBytes(socket: object): number {
  const handle: unknown = Reflect.get(socket, "_handle");
  const size: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "writeQueueSize") : 0;
  return typeof size === "number" ? size : 0;
}

/**
 * Ends the HTTP/2 stream, or the HTTP/1.1 connection. Not a stream of a connection that takes
 * nothing right now: closing such streams one by one, Node 24 writes into memory without end. They
 * end with their connection, or when it takes something again.
 */
export function cut(response: NodeResponse, code = constants.NGHTTP2_CANCEL): void {
  if (!("stream" in response)) return void response.req.socket.destroy(); // destroying a request that was read to its end does nothing
  const { stream } = response;
  if (stream.destroyed) return;
  if (stream.session !== undefined && unsentBytes(stream.session.socket) > 0) setTimeout(() => cut(response, code), cutAgainMs).unref();
  else stream.close(code);
}
