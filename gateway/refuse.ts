import { constants } from "node:http2";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import { universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { fail } from "@parley/chassis/rpc/errors.ts";
import { RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import type { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
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

/** Makes the error of a call that is not let in, and may be tried again after some time, in whole milliseconds. */
export function tryLater(reason: ErrorReason, message: string, retryMs: number): ConnectError {
  return fail(reason, message, {}, { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(retryMs) } });
}

/** Answers with an error in the form of the request's protocol. The connection goes on. */
export async function refuseCall(request: NodeRequest, response: NodeResponse, error: ConnectError): Promise<void> {
  if (response.headersSent || isGone(response)) return;
  await universalResponseToNodeResponse(errorResponse(request, error), response).catch(() => cut(response));
}
