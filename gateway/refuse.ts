import { constants } from "node:http2";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import { universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { fail } from "@parley/chassis/rpc/errors.ts";
import { RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import type { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { errorResponse } from "./error-response.ts";
import { cut, isGone, type NodeRequest, type NodeResponse } from "./node-request.ts";

/** Time that the client has to take the refusal. */
const unreadMs = 1_000;

/** Answers without a handler, and ends the request however much of it is still to come. */
export function refuse(request: NodeRequest, response: NodeResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "text/plain; charset=utf-8", ...closing(request) });
  response.end(text, () => cut(response, constants.NGHTTP2_NO_ERROR));
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

/** Does so at little cost, for a request beyond the limits: no part of it is read, and it ends however much is still to come. */
export async function turnAway(request: NodeRequest, response: NodeResponse, error: ConnectError): Promise<void> {
  setTimeout(() => cut(response), unreadMs).unref();
  for (const [name, value] of Object.entries(closing(request))) response.setHeader(name, value);
  await refuseCall(request, response, error);
  cut(response, constants.NGHTTP2_NO_ERROR);
}

/** What is left of a request on HTTP/1.1 nobody reads, so its connection ends (RFC 9112, section 9.6). */
function closing({ httpVersionMajor }: NodeRequest): Record<string, string> {
  return httpVersionMajor === 1 ? { connection: "close" } : {};
}
