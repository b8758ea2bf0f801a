import type { ContextValues } from "@connectrpc/connect";
import {
  assertByteStreamRequest,
  createAsyncIterable,
  type UniversalHandlerFn,
  type UniversalServerRequest,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { invalidRequest } from "@parley/chassis/rpc/errors.ts";
import type { Logger } from "pino";
import { withEtag } from "./etag.ts";
import { type NodeRequest, type NodeResponse, pathOf } from "./node-request.ts";
import { protocolOf } from "./protocol.ts";
import { answerText, breakOff, refuseCall } from "./refuse.ts";
import { wholeEnvelopes } from "./whole-envelopes.ts";

const notUnicode = invalidRequest([{ field: "", description: "the request holds text that is not Unicode", reason: "malformed" }]);

/** Answers a request of Node's with a handler of Connect's. Never throws: an answer that cannot be given is a closed connection. */
export async function serveRequest(
  request: NodeRequest,
  response: NodeResponse,
  options: { handler: UniversalHandlerFn; contextValues: ContextValues; maxMessageBytes: number; log: Logger },
): Promise<void> {
  let universal: UniversalServerRequest;
  try {
    // Who stops reading a body does not destroy it: its connection goes on with the next request.
    const body: AsyncIterable<Uint8Array> = request.iterator({ destroyOnReturn: false });
    universal = { ...universalRequestFromNodeRequest(request, response, undefined, options.contextValues), body };
  } catch {
    return breakOff(request, response, 400, "the request names no valid host and path\n");
  }
  // A proxy in front may decide by the path as it is: no other spelling of it (`//`, `..`, `\\`) is taken.
  const path = pathOf(request);
  if ((path || "/") !== new URL(universal.url).pathname || request.url?.includes("#") === true)
    return answerText(response, 400, "the path is not in its normal form\n");
  const protocol = protocolOf(request);
  if (protocol !== "connect" && protocol !== "rest") {
    assertByteStreamRequest(universal);
    universal = { ...universal, body: wholeEnvelopes(universal.body, options.maxMessageBytes) };
  }
  try {
    const result = withReason(await options.handler(universal), universal);
    await universalResponseToNodeResponse(await withEtag(universal, result), response);
  } catch (error) {
    if (universal.signal.aborted || response.headersSent) return void request.destroy(); // the client is gone
    // Half a surrogate pair in what an error is to repeat of the request.
    if (error instanceof URIError) return refuseCall(request, response, notUnicode);
    options.log.error({ err: error, path }, "a request could not be answered");
    answerText(response, 500, "internal error\n");
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
