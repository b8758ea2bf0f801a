import { constants } from "node:http2";
import { toJson } from "@bufbuild/protobuf";
import { errorToJson } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { fail, statusMessageOf } from "@parley/chassis/rpc/errors.ts";
import { RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { types } from "./contracts.ts";
import { cut, type NodeRequest, type NodeResponse } from "./node-request.ts";

const retrySeconds = 1;
/** Time that the client has to take the refusal. */
const unreadMs = 1_000;
const retry = { desc: RetryInfoSchema, value: { retryDelay: { seconds: BigInt(retrySeconds) } } };
const message = "too many calls are in progress, of this client or in all: end some, or try again";
const error = fail(ErrorReason.TOO_MANY_CALLS, message, {}, retry);
const grpcHeaders = Object.fromEntries(setTrailerStatus(new Headers(), error));
const restHeaders = { "content-type": "application/json", "retry-after": String(retrySeconds) };
const connectText = JSON.stringify(errorToJson(error, undefined));
const restText = JSON.stringify(toJson(StatusSchema, statusMessageOf(error), { registry: types }));

/** Answers without a handler, and ends the request however much of it is still to come. */
export function refuse(request: NodeRequest, response: NodeResponse, status: number, text: string): void {
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    ...(request.httpVersionMajor === 1 && { connection: "close" }),
  });
  response.end(text, () => cut(response, constants.NGHTTP2_NO_ERROR));
}

/** Refuses a request because of too many in progress, in the form of its protocol, at little cost: no part of it is read. */
export function refuseTooMany(request: NodeRequest, response: NodeResponse): void {
  request.on("error", () => {});
  const type = request.headers["content-type"] ?? "";
  const isGrpc = type.startsWith("application/grpc");
  const isConnect = type.startsWith("application/connect+") || request.headers["connect-protocol-version"] !== undefined;
  if (isGrpc && "stream" in response) {
    // A status in headers must end the stream (gRPC over HTTP/2, Trailers-Only).
    response.stream.respond({ ":status": 200, "content-type": type, ...grpcHeaders }, { endStream: true });
    return void cut(response, constants.NGHTTP2_NO_ERROR);
  }
  if (isGrpc) response.writeHead(200, { "content-type": type, ...grpcHeaders });
  else response.writeHead(429, restHeaders);
  setTimeout(() => cut(response), unreadMs).unref();
  response.end(isGrpc ? "" : isConnect ? connectText : restText, () => cut(response, constants.NGHTTP2_NO_ERROR));
}
