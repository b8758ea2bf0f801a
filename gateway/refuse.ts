import { constants } from "node:http2";
import type { ConnectError } from "@connectrpc/connect";
import { universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { errorResponse } from "./error-response.ts";
import { cut, isGone, type NodeRequest, type NodeResponse } from "./node-request.ts";

/** Answers without a handler. What is left of the request is endBody's. */
export function answerText(response: NodeResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
  response.end(text);
}

/** Answers likewise, and ends the request however much of it is still to come: on HTTP/1.1 with its connection (RFC 9112, section 9.6). */
export function breakOff(request: NodeRequest, response: NodeResponse, status: number, text: string): void {
  if (request.httpVersionMajor === 1) response.setHeader("connection", "close");
  response.once("finish", () => cut(response, constants.NGHTTP2_NO_ERROR));
  answerText(response, status, text);
}

/** Answers with an error in the form of the request's protocol. The connection goes on. */
export async function refuseCall(request: NodeRequest, response: NodeResponse, error: ConnectError): Promise<void> {
  if (response.headersSent || isGone(response)) return;
  await universalResponseToNodeResponse(errorResponse(request, error), response).catch(() => cut(response));
}
