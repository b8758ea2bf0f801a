import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError } from "@connectrpc/connect";
import { type Compression, createAsyncIterable, type UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import { retryDelayMsOf, statusMessageOf } from "@parley/chassis/rpc/errors.ts";
import { BadRequestSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import { compressMinBytes } from "./compression.ts";
import { types } from "./contracts.ts";

/** Returns an error as REST tells it: `google.rpc.Status` as JSON, under the HTTP status of its code where no other is given. */
export function restError(error: ConnectError, header = new Headers(), status = codeToHttpStatus(error.code)): JsonResponse {
  for (const [key, value] of error.metadata) header.set(key, value);
  if (error.code === Code.Unauthenticated) header.set("www-authenticate", "Bearer"); // RFC 9110, section 15.5.2
  for (const [name, value] of Object.entries(retryAfterOf(error))) header.set(name, value);
  return jsonResponse(statusJson(error), header, status);
}

export function statusJson(error: ConnectError): JsonValue {
  const message = withJsonNames(statusMessageOf(error));
  // What is not known cannot be written as JSON.
  message.details = message.details.filter(({ typeUrl }) => types.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) !== undefined);
  return toJson(StatusSchema, message, { registry: types });
}

/** Why REST itself refuses a field; all others the service's validation gives. */
const ownReasons: ReadonlySet<string> = new Set<RestViolation>(["malformed", "unknown_field", "repeated", "misplaced"]);
export type RestViolation = "malformed" | "unknown_field" | "repeated" | "misplaced";

/** In JSON, violations name fields as JSON does (google/rpc/error_details.proto, FieldViolation). */
function withJsonNames(status: Status): Status {
  for (const [index, detail] of status.details.entries()) {
    const badRequest = anyUnpack(detail, BadRequestSchema);
    for (const violation of badRequest?.fieldViolations ?? []) {
      if (ownReasons.has(violation.reason)) continue; // named as the client spells it
      const jsonName = violation.field.replace(/"[^"]*"|_+([a-z0-9])/g, (text, letter?: string) => letter?.toUpperCase() ?? text);
      status.message = status.message.replace(`${violation.field}: `, () => `${jsonName}: `);
      violation.field = jsonName;
    }
    if (badRequest !== undefined) status.details[index] = anyPack(BadRequestSchema, badRequest);
  }
  return status;
}

/** An answer whose bytes are all here. */
export interface JsonResponse extends UniversalServerResponse {
  readonly header: Headers;
  readonly bytes: Uint8Array;
}

export function jsonResponse(json: JsonValue, header: Headers, status: number): JsonResponse {
  return withBytes({ status, header }, new TextEncoder().encode(JSON.stringify(json)));
}

/** Compresses an answer, unless it is small. */
export async function compress(response: JsonResponse, compression: Compression): Promise<JsonResponse> {
  if (response.bytes.byteLength < compressMinBytes) return response;
  response.header.set("content-encoding", compression.name);
  return withBytes(response, await compression.compress(response.bytes));
}

function withBytes({ status, header }: { status: number; header: Headers }, bytes: Uint8Array): JsonResponse {
  header.set("content-type", "application/json");
  header.set("content-length", String(bytes.byteLength));
  return { status, header, body: createAsyncIterable([bytes]), bytes };
}

/** Returns the header that says what an error's `google.rpc.RetryInfo` does, in whole seconds (RFC 9110, section 10.2.3). */
export function retryAfterOf(error: ConnectError): Record<string, string> {
  const delayMs = retryDelayMsOf(error);
  return delayMs === undefined ? {} : { "retry-after": String(Math.ceil(delayMs / 1_000)) };
}
