import { create, fromJson, type JsonObject, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import { anyPack, anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createHandlerContext, type HandlerContext, type Interceptor, type MethodImplSpec } from "@connectrpc/connect";
import {
  assertByteStreamRequest,
  type Compression,
  createAsyncIterable,
  invokeUnaryImplementation,
  readAllBytes,
  transformInvokeImplementation,
  type UniversalHandlerFn,
  type UniversalServerRequest,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import { fail, invalidRequest, statusMessageOf } from "@parley/chassis/rpc/errors.ts";
import type { Shutdown } from "@parley/chassis/rpc/shutdown.ts";
import { BadRequestSchema, RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { answerCompression, compressions, compressMinBytes } from "./compression.ts";
import { types } from "./contracts.ts";
import { type Binding, bindingsOf } from "./http-rule.ts";
import { streamFormOf, withBeat } from "./rest-stream.ts";
import { createRouter } from "./router.ts";
import { findUrlField, isRepeated, pathOf, setUrlField } from "./url-field.ts";

export interface RestOptions {
  readonly methods: readonly MethodImplSpec[];
  readonly interceptors: Interceptor[];
  readonly maxMessageBytes: number;
  /** Returns what to show for an error that arises outside of the interceptors. */
  readonly unexpected: (error: unknown) => ConnectError;
  readonly shutdown: Shutdown;
}

/** After which time without an event a comment is sent: proxies cut what is silent for a minute. */
const beatMs = 15_000;

type Route = Binding & { readonly spec: MethodImplSpec & { kind: "unary" | "server_streaming" } };

/**
 * Returns the handler of the methods' REST form, as `google.api.http` in their contracts
 * describes it (google/api/http.proto). Errors are `google.rpc.Status` as JSON, under the HTTP
 * status of their code; streams are lines of JSON, or events where the client accepts them.
 *
 * Throws, naming the methods, on a rule that it cannot follow, and on two methods at one route.
 */
export function createRestHandler(options: RestOptions): UniversalHandlerFn {
  const find = createRouter(options.methods.flatMap(routesOf), nameOf);
  return async (request) => {
    const { pathname, searchParams } = new URL(request.url);
    const found = find(pathname);
    if (found.length === 0) return errorResponse(fail(ErrorReason.UNKNOWN_ROUTE, `there is nothing at ${pathname}`));
    const match = found.find(({ route }) => takes(route, request.method));
    if (match === undefined) {
      const allow = [...new Set(found.map(({ route }) => route.httpMethod))].join(", ");
      const error = fail(ErrorReason.WRONG_VERB, `${pathname} takes ${allow}, not ${request.method}`);
      return errorResponse(error, new Headers({ allow }), 405);
    }
    try {
      return await answer(match.route, match.values, searchParams, request, options);
    } catch (error) {
      return errorResponse(error instanceof ConnectError ? error : options.unexpected(error));
    }
  };
}

function routesOf(spec: MethodImplSpec): Route[] {
  const bindings = bindingsOf(spec.method); // refuses streams of requests
  return spec.kind === "unary" || spec.kind === "server_streaming" ? bindings.map((binding) => ({ ...binding, spec })) : [];
}

function nameOf({ spec: { method }, httpMethod, template }: Route): string {
  const path = template.segments.map((segment) => (typeof segment === "object" ? segment.literal : segment)).join("/");
  return `${method.parent.typeName}.${method.name} (${httpMethod} /${path}${template.verb && `:${template.verb}`})`;
}

/** HEAD is answered like GET, but for streams, of which it would be the end that is waited for. */
function takes({ httpMethod, spec }: Route, method: string): boolean {
  return httpMethod === method || httpMethod === "*" || (method === "HEAD" && httpMethod === "GET" && spec.kind === "unary");
}

async function answer(
  route: Route,
  pathValues: readonly string[],
  query: URLSearchParams,
  request: UniversalServerRequest,
  options: RestOptions,
): Promise<UniversalServerResponse> {
  const { header } = request;
  const type = header.get("content-type");
  if (route.body !== undefined && type !== null && !/^application\/json\s*(;|$)/i.test(type)) {
    return errorResponse(malformed(`${new URL(request.url).pathname} takes application/json, not ${type}`), new Headers(), 415);
  }
  const encoding = header.get("content-encoding") ?? "identity";
  const compressed = compressions.find(({ name }) => name === encoding);
  if (compressed === undefined && encoding !== "identity") {
    const known = compressions.map(({ name }) => name).join(", ");
    const error = malformed(`a body may be compressed with ${known}, not with ${encoding}`);
    return errorResponse(error, new Headers({ "accept-encoding": known }), 415); // RFC 9110, section 12.5.3
  }
  if (route.spec.kind === "server_streaming" && isEventStream(header)) takeTokenOf(query, header);
  const message = await readRequest(route, pathValues, query, async () => {
    assertByteStreamRequest(request);
    const bytes = await readAllBytes(request.body, options.maxMessageBytes, header.get("content-length")).catch((error: unknown) => {
      throw error instanceof ConnectError ? error : fail(ErrorReason.CANCELLED, "the request's body did not come to its end");
    });
    return compressed === undefined ? bytes : compressed.decompress(bytes, options.maxMessageBytes);
  });
  const { spec } = route;
  if (spec.kind === "server_streaming") return callStream(route, spec, message, request, options);
  const response = await callUnary(route, spec, message, request, options);
  const compression = answerCompression(header);
  return compression === undefined ? response : compress(response, compression);
}

/** Fields come from the path, from the body as far as the rule says so, and from the query. */
async function readRequest(
  { spec, variables, body, query: settable }: Route,
  pathValues: readonly string[],
  query: URLSearchParams,
  readBody: () => Promise<Uint8Array>,
): Promise<Message> {
  const { input } = spec.method;
  let json: JsonObject = {};
  if (body !== undefined) {
    const content = parseJson(await readBody());
    const isWhole = body === "*";
    if (content !== undefined && !isObject(content) && (isWhole || variables.some(([first]) => first === body)))
      throw malformed("the body is not a JSON object");
    if (isWhole) json = isObject(content) ? content : {};
    else if (content !== undefined) json = { [body.jsonName]: content };
  }
  for (const name of new Set(query.keys())) {
    const field = findUrlField(input, name);
    const values = query.getAll(name);
    const path = field === undefined ? name : pathOf(field);
    if (field !== undefined && settable.some((candidate) => pathOf(candidate) === path)) {
      if (values.length > 1 && !isRepeated(field)) throw invalidField(name, "stands in the query more than once", "repeated");
      setUrlField(json, field, values);
    } else if (field === undefined) throw invalidField(name, `${input.typeName} has no such field that a URL can set`, "unknown_field");
    else throw invalidField(name, "stands in the query, but belongs into the path or the body", "misplaced");
  }
  for (const [index, field] of variables.entries()) setUrlField(json, field, [pathValues[index] ?? ""]);
  try {
    return fromJson(input, json, { registry: types });
  } catch (error) {
    throw malformed(error instanceof Error ? error.message : String(error));
  }
}

/** Returns undefined where there is no body. */
function parseJson(bytes: Uint8Array): JsonValue | undefined {
  if (bytes.byteLength === 0) return undefined;
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw malformed(`the body is not JSON: ${error instanceof Error ? error.message : error}`);
  }
}

async function callUnary(
  route: Route,
  spec: MethodImplSpec & { kind: "unary" },
  message: Message,
  request: UniversalServerRequest,
  options: RestOptions,
): Promise<JsonResponse> {
  const context = openContext(spec, request, options);
  try {
    const answer = await invokeUnaryImplementation(spec, context, message, options.interceptors);
    return jsonResponse(jsonOf(route, answer), context.responseHeader, 200);
  } catch (error) {
    return errorResponse(error instanceof ConnectError ? error : options.unexpected(error), context.responseHeader);
  } finally {
    context.abort();
  }
}

/** What goes wrong before the first message is an error as any other; later it comes last in the stream. */
async function callStream(
  route: Route,
  spec: MethodImplSpec & { kind: "server_streaming" },
  message: Message,
  request: UniversalServerRequest,
  options: RestOptions,
): Promise<UniversalServerResponse> {
  const context = openContext(spec, request, options);
  const form = streamFormOf(request.header.get("accept"));
  const errorOf = (error: unknown): ConnectError => (error instanceof ConnectError ? error : options.unexpected(error));
  const answers = transformInvokeImplementation(
    spec,
    context,
    options.interceptors,
  )(createAsyncIterable([message]))[Symbol.asyncIterator]();
  let first: IteratorResult<Message>;
  try {
    first = await answers.next();
  } catch (error) {
    context.abort();
    return errorResponse(errorOf(error), context.responseHeader);
  }
  async function* write(): AsyncGenerator<string> {
    try {
      for (let next = first; next.done !== true; next = await answers.next()) yield form.message(jsonOf(route, next.value));
      yield form.end(toJson(StatusSchema, create(StatusSchema), { alwaysEmitImplicit: true }), false);
    } catch (error) {
      yield form.end(statusJson(errorOf(error)), true);
    } finally {
      context.abort();
    }
  }
  const header = context.responseHeader;
  header.set("content-type", form.contentType);
  header.set("cache-control", "no-store");
  header.set("x-accel-buffering", "no"); // nginx holds answers back where nobody says this
  return { status: 200, header, body: encode(withBeat(write(), form.beat, beatMs)) };
}

async function* encode(texts: AsyncIterable<string>): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  for await (const text of texts) yield encoder.encode(text);
}

function openContext(
  { method, kind }: MethodImplSpec,
  request: UniversalServerRequest,
  { shutdown }: RestOptions,
): HandlerContext & { abort: (reason?: unknown) => void } {
  return createHandlerContext({
    service: method.parent,
    method,
    protocolName: "rest",
    requestMethod: request.method,
    url: request.url,
    requestHeader: request.header,
    requestSignal: request.signal,
    shutdownSignal: shutdown.signalFor(kind),
    ...(request.contextValues && { contextValues: request.contextValues }),
  });
}

function isEventStream(header: Headers): boolean {
  return streamFormOf(header.get("accept")).contentType === "text/event-stream";
}

/** An `EventSource` cannot set headers, so its token may stand in the URL (RFC 6750, section 2.3), which is in no log of ours. */
function takeTokenOf(query: URLSearchParams, header: Headers): void {
  const token = query.get("access_token");
  query.delete("access_token");
  if (token !== null && !header.has("authorization")) header.set("authorization", `Bearer ${token}`);
}

function jsonOf({ spec, responseBody }: Route, message: Message): JsonValue {
  const json = toJson(spec.method.output, message, { registry: types });
  return responseBody === undefined || !isObject(json) ? json : (json[responseBody.field.jsonName] ?? responseBody.unset);
}

function errorResponse(error: ConnectError, header = new Headers(), status = codeToHttpStatus(error.code)): JsonResponse {
  for (const [key, value] of error.metadata) header.append(key, value);
  if (error.code === Code.Unauthenticated) header.set("www-authenticate", "Bearer"); // RFC 9110, section 15.5.2
  const [retry] = error.findDetails(RetryInfoSchema);
  if (retry?.retryDelay !== undefined) header.set("retry-after", String(Math.ceil(durationMs(retry.retryDelay) / 1_000)));
  return jsonResponse(statusJson(error), header, status);
}

function statusJson(error: ConnectError): JsonValue {
  const message = withJsonNames(statusMessageOf(error));
  // What is not known cannot be written as JSON.
  message.details = message.details.filter(({ typeUrl }) => types.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) !== undefined);
  return toJson(StatusSchema, message, { registry: types });
}

/** In JSON, violations name fields as JSON does (google/rpc/error_details.proto, FieldViolation). */
function withJsonNames(status: Status): Status {
  for (const [index, detail] of status.details.entries()) {
    const badRequest = anyUnpack(detail, BadRequestSchema);
    for (const violation of badRequest?.fieldViolations ?? []) {
      const jsonName = violation.field.replace(/"[^"]*"|_+([a-z0-9])/g, (text, letter?: string) => letter?.toUpperCase() ?? text);
      status.message = status.message.replace(`${violation.field}: `, () => `${jsonName}: `);
      violation.field = jsonName;
    }
    if (badRequest !== undefined) status.details[index] = anyPack(BadRequestSchema, badRequest);
  }
  return status;
}

interface JsonResponse extends UniversalServerResponse {
  readonly header: Headers;
  readonly bytes: Uint8Array;
}

function jsonResponse(json: JsonValue, header: Headers, status: number): JsonResponse {
  return withBytes({ status, header }, new TextEncoder().encode(JSON.stringify(json)));
}

async function compress(response: JsonResponse, compression: Compression): Promise<JsonResponse> {
  if (response.bytes.byteLength < compressMinBytes) return response;
  response.header.set("content-encoding", compression.name);
  return withBytes(response, await compression.compress(response.bytes));
}

function withBytes({ status, header }: { status: number; header: Headers }, bytes: Uint8Array): JsonResponse {
  header.set("content-type", "application/json");
  header.set("content-length", String(bytes.byteLength));
  return { status, header, body: createAsyncIterable([bytes]), bytes };
}

function isObject(json: JsonValue | undefined): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function malformed(description: string): ConnectError {
  return invalidField("", description, "malformed");
}

function invalidField(field: string, description: string, reason: string): ConnectError {
  return invalidRequest([{ field, description, reason }]);
}
