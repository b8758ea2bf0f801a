import { constants } from "node:http2";
import { toJson } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import { codeToHttpStatus, errorToJson } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { fail, statusMessageOf } from "@parley/chassis/rpc/errors.ts";
import { RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import type { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { types } from "./contracts.ts";
import { cut, type NodeRequest, type NodeResponse } from "./node-request.ts";

/** Time that the client has to take the refusal. */
const unreadMs = 1_000;

/** Answers without a handler, and ends the request however much of it is still to come. */
export function refuse(request: NodeRequest, response: NodeResponse, status: number, text: string): void {
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    ...(request.httpVersionMajor === 1 && { connection: "close" }),
  });
  response.end(text, () => cut(response, constants.NGHTTP2_NO_ERROR));
}

/** Why a call is not let in, and after which time it may be tried again; undefined: not as it is. */
export interface Refusal {
  readonly error: ConnectError;
  readonly retryMs?: number;
}

/** Makes a refusal, whose error tells the time, whole milliseconds, as `google.rpc.RetryInfo`. */
export function createRefusal(reason: ErrorReason, message: string, retryMs: number): Refusal {
  return { error: fail(reason, message, {}, { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(retryMs) } }), retryMs };
}

/** Refuses a call in the form of its protocol, at little cost: no part of it is read. */
export function refuseCall(request: NodeRequest, response: NodeResponse, { error, retryMs }: Refusal): void {
  request.on("error", () => {});
  const type = request.headers["content-type"] ?? "";
  const isGrpc = type.startsWith("application/grpc");
  if (isGrpc) {
    const headers = { "content-type": type, ...Object.fromEntries(setTrailerStatus(new Headers(), error)) };
    if ("stream" in response) {
      // A status in headers must end the stream (gRPC over HTTP/2, Trailers-Only).
      response.stream.respond({ ":status": 200, ...headers }, { endStream: true });
      return void cut(response, constants.NGHTTP2_NO_ERROR);
    }
    response.writeHead(200, headers);
  } else {
    response.writeHead(codeToHttpStatus(error.code), {
      "content-type": "application/json",
      ...(retryMs !== undefined && { "retry-after": String(Math.ceil(retryMs / 1_000)) }), // RFC 9110, section 10.2.3
    });
  }
  setTimeout(() => cut(response), unreadMs).unref();
  response.end(isGrpc ? "" : textOf(error, request), () => cut(response, constants.NGHTTP2_NO_ERROR));
}

function textOf(error: ConnectError, { headers }: NodeRequest): string {
  const isConnect =
    headers["content-type"]?.startsWith("application/connect+") === true || headers["connect-protocol-version"] !== undefined;
  return JSON.stringify(isConnect ? errorToJson(error, undefined) : toJson(StatusSchema, statusMessageOf(error), { registry: types }));
}
