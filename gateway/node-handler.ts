import { constants } from "node:http2";
import type { ContextValues } from "@connectrpc/connect";
import {
  assertByteStreamRequest,
  createAsyncIterable,
  type UniversalHandlerFn,
  type UniversalServerRequest,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { type connectNodeAdapter, universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { Logger } from "pino";
import { wholeEnvelopes } from "./whole-envelopes.ts";

/** What node:http and node:http2 both call: connect-node has the type, but no name for it. */
export type NodeHandler = ReturnType<typeof connectNodeAdapter>;
export type NodeRequest = Parameters<NodeHandler>[0];
export type NodeResponse = Parameters<NodeHandler>[1];

/** When to try again to end a stream. */
const cutAgainMs = 1_000;

/** Answers a request of Node's with a handler of Connect's. Never throws: an answer that cannot be given is a closed connection. */
export async function answer(
  request: NodeRequest,
  response: NodeResponse,
  options: { handler: UniversalHandlerFn; contextValues: ContextValues; maxMessageBytes: number; log: Logger },
): Promise<void> {
  // connect-node stops listening when the response closes, and Node tells the error of an HTTP/1.1 request after that.
  request.on("error", () => {});
  let universal: UniversalServerRequest;
  try {
    universal = universalRequestFromNodeRequest(request, response, undefined, options.contextValues);
  } catch {
    return refuse(request, response, 400, "the request names no valid host and path\n");
  }
  const [path = ""] = request.url?.split("?", 1) ?? [];
  // A proxy in front may decide by the path as it is: no other spelling of it (`//`, `..`, `\\`) is taken.
  if (path.startsWith("/") && path !== new URL(universal.url).pathname)
    return refuse(request, response, 400, "the path is not in its normal form\n");
  if (/^application\/(grpc|connect\+)/.test(request.headers["content-type"] ?? "")) {
    assertByteStreamRequest(universal);
    universal = { ...universal, body: wholeEnvelopes(universal.body, options.maxMessageBytes) };
  }
  try {
    await universalResponseToNodeResponse(withReason(await options.handler(universal), universal), response);
  } catch (error) {
    if (universal.signal.aborted || response.headersSent) return void request.destroy(); // the client is gone
    options.log.error({ err: error, url: request.url }, "a request could not be answered");
    refuse(request, response, 500, "internal error\n");
  }
}

/** Connect refuses a content type and a verb without a word. */
function withReason(answer: UniversalServerResponse, { url, header, method }: UniversalServerRequest): UniversalServerResponse {
  if (answer.body !== undefined || (answer.status !== 415 && answer.status !== 405)) return answer;
  const { pathname } = new URL(url);
  const text =
    answer.status === 405
      ? `${pathname} takes ${answer.header?.get("allow") ?? "POST"}, not ${method}\n`
      : `${pathname} takes application/json and other types of Connect and gRPC, not ${header.get("content-type") ?? "none"}: curl needs -H 'content-type: application/json', or --json\n`;
  const headers = new Headers(answer.header);
  headers.set("content-type", "text/plain; charset=utf-8");
  return { ...answer, header: headers, body: createAsyncIterable([new TextEncoder().encode(text)]) };
}

/**
 * Ends a request whose body, where it has one, is not all here in time, counted from its answer
 * where the body is a stream: with 408 (RFC 9110, section 15.5.9) as long as nothing was answered.
 */
export function limitBodyTime(
  request: NodeRequest,
  response: NodeResponse,
  { timeoutMs, isStream }: { timeoutMs: number; isStream: boolean },
): void {
  if (!hasBody(request)) return;
  let timer: NodeJS.Timeout | undefined;
  const start = (): void => {
    timer = setTimeout(() => {
      if (isComplete(request)) return;
      if (response.headersSent) cut(request, response);
      else refuse(request, response, 408, "the request's body took too long\n");
    }, timeoutMs);
  };
  if (isStream) response.once("finish", start);
  else start();
  const stop = (): void => clearTimeout(timer);
  // Of a HEAD over HTTP/2 Node says that it has ended when it was answered.
  if ("stream" in request) request.stream.once("close", stop);
  else for (const event of ["end", "close"]) request.once(event, stop);
}

function isComplete(request: NodeRequest): boolean {
  return "stream" in request ? request.stream.destroyed || request.stream.state.remoteClose === 1 : request.complete;
}

/**
 * Ends an HTTP/2 request of whose answer the client takes too little: twice the time has passed
 * without all that waited being taken. Whatever else the client sends counts for nothing.
 */
export function limitUnreadTime(request: NodeRequest, response: NodeResponse, timeoutMs: number): void {
  if (!("stream" in response)) return; // its connection's limit is its own
  const { stream } = response;
  let rounds = 0;
  const looking = setInterval(() => {
    rounds = stream.writableLength === 0 ? 0 : rounds + 1;
    if (rounds > 2) cut(request, response);
  }, timeoutMs);
  response.on("drain", () => {
    rounds = 0;
  });
  stream.once("close", () => clearInterval(looking));
}

/** Returns how much of what was sent is still here, for the client takes no more; of HTTP/2, Node tells it nowhere else. */
export function unsentBytes(socket: object): number {
  const handle: unknown = Reflect.get(socket, "_handle");
  const size: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "writeQueueSize") : 0;
  return typeof size === "number" ? size : 0;
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
  response.end(text, () => cut(request, response, constants.NGHTTP2_NO_ERROR));
}

/**
 * Ends the HTTP/2 stream, or the HTTP/1.1 connection. Not a stream of a connection that takes
 * nothing right now: closing such streams one by one, Node 24 writes into memory without end. They
 * end with their connection, or when it takes something again.
 */
export function cut(request: NodeRequest, response: NodeResponse, code = constants.NGHTTP2_CANCEL): void {
  if (!("stream" in response)) return void request.socket.destroy(); // destroying a request that was read to its end does nothing
  const { stream } = response;
  if (stream.destroyed) return;
  if (stream.session !== undefined && unsentBytes(stream.session.socket) > 0)
    setTimeout(() => cut(request, response, code), cutAgainMs).unref();
  else stream.close(code);
}
