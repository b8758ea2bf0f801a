import { Code, ConnectError } from "@connectrpc/connect";
import { createAsyncIterable, encodeEnvelope, type UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, endStreamFlag, endStreamToJson, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { type NodeRequest, pathOf } from "./node-request.ts";
import { protocolOf } from "./protocol.ts";
import { restError, retryAfterOf } from "./rest-response.ts";

/** Returns an error that arises before there is a handler, as the protocol of the request has it. */
export function errorResponse(request: NodeRequest, error: ConnectError): UniversalServerResponse {
  const header = new Headers({ "content-type": request.headers["content-type"] ?? "" });
  switch (protocolOf(request)) {
    case "grpc":
      return { status: 200, header, trailer: setTrailerStatus(new Headers(), error) };
    case "grpc-web":
      return { status: 200, header: setTrailerStatus(header, error) };
    case "connect-stream": {
      const end = new TextEncoder().encode(JSON.stringify(endStreamToJson(new Headers(), error, undefined)));
      return { status: 200, header, body: createAsyncIterable([encodeEnvelope(endStreamFlag, end)]) };
    }
    case "connect": {
      const body = errorToJsonBytes(error, undefined);
      const headers = new Headers({
        "content-type": "application/json",
        "content-length": String(body.byteLength),
        ...retryAfterOf(error),
      });
      // A method that there is not is a path that there is not (Connect protocol, Error Codes).
      const status = error.code === Code.Unimplemented ? 404 : codeToHttpStatus(error.code);
      return { status, header: headers, body: createAsyncIterable([body]) };
    }
    case "rest":
      return restError(error);
  }
}

/** Returns the answer to a call of a method that there is not. */
export function unknownMethod(request: NodeRequest): UniversalServerResponse {
  return errorResponse(request, new ConnectError(`there is no method ${pathOf(request)}`, Code.Unimplemented));
}
