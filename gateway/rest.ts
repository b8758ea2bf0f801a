import {
  create,
  type DescMessage,
  type DescMethod,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import { Code, ConnectError, createHandlerContext, type HandlerContext, type Interceptor, type MethodImplSpec } from "@connectrpc/connect";
import {
  assertByteStreamRequest,
  createAsyncIterable,
  invokeUnaryImplementation,
  readAllBytes,
  transformInvokeImplementation,
  type UniversalHandlerFn,
  type UniversalServerRequest,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { fail, invalidRequest } from "@parley/chassis/rpc/errors.ts";
import type { Shutdown } from "@parley/chassis/rpc/shutdown.ts";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import { ErrorReason, ErrorReasonSchema } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { callEndKey } from "./access-log.ts";
import { answerCompression, compressions } from "./compression.ts";
import { types } from "./contracts.ts";
import { type Binding, bindingsOf } from "./http-rule.ts";
import { compress, type JsonResponse, jsonResponse, type RestViolation, restError, statusJson } from "./rest-response.ts";
import { eventStream, type StreamForm, streamFormOf, withHeartbeat, withinTime } from "./rest-stream.ts";
import { createRouter } from "./router.ts";
import { findUrlField, isRepeated, pathOf, setUrlField } from "./url-field.ts";

export interface RestOptions {
  readonly methods: readonly MethodImplSpec[];
  readonly interceptors: Interceptor[];
  readonly maxMessageBytes: number;
  /** Returns what to show for an error: a ConnectError as it is. */
  readonly unexpected: (error: unknown) => ConnectError;
  readonly shutdown: Shutdown;
  /** Paths at which the gateway itself has something: no method may have a route there. */
  readonly reservedPaths?: readonly string[];
  /** After which time without an event a comment is sent. Default: 15 s, for proxies cut what is silent for a minute. */
  readonly heartbeatMs?: number;
}

const tooLarge = ErrorReasonSchema.value[ErrorReason.BODY_TOO_LARGE].localName;

type Route = Binding & { readonly spec: MethodImplSpec & { kind: "unary" | "server_streaming" } };

/** What answers a request, and the method that it calls, if any. */
export interface RestTarget {
  readonly method?: DescMethod;
  readonly handle: UniversalHandlerFn;
}

/**
 * Returns what finds, by a request's verb and path, what answers it in the methods' REST form, as `google.api.http` in their contracts
 * describes it (google/api/http.proto). Errors are `google.rpc.Status` as JSON, under the HTTP
 * status of their code; streams are lines of JSON, or events where the client accepts them.
 *
 * Throws, naming the methods, on a rule that it cannot follow, and on two methods at one route.
 */
export function createRest(options: RestOptions): (verb: string, path: string) => RestTarget {
  const find = createRouter(options.methods.flatMap(routesOf), nameOf);
  for (const path of options.reservedPaths ?? [])
    for (const { route } of find(path)) throw new Error(`${nameOf(route)} has a route at ${path}, where the gateway has a page of its own`);
  return (verb, path) => {
    const found = find(path);
    if (found.length === 0) {
      const handle: UniversalHandlerFn = async (request) =>
        refuse(request, fail(ErrorReason.UNKNOWN_ROUTE, `there is nothing at ${path}: /docs shows what there is`));
      return { handle };
    }
    const match = found.find(({ route }) => takes(route, verb));
    if (match === undefined) {
      const allow = allowedOf(found.map(({ route }) => route)).join(", ");
      const handle: UniversalHandlerFn = async (request) =>
        refuse(request, fail(ErrorReason.WRONG_VERB, `${path} takes ${allow}, not ${verb}`), new Headers({ allow }), 405);
      return { handle };
    }
    const { route, values } = match;
    const handle: UniversalHandlerFn = async (request) => {
      try {
        return await callRoute(route, values, new URL(request.url).searchParams, request, options);
      } catch (error) {
        return refuse(request, options.unexpected(error));
      }
    };
    return { method: route.spec.method, handle };
  };
}

/** Tells an error that there is no call of, and the log of requests too. */
function refuse({ contextValues }: UniversalServerRequest, error: ConnectError, header?: Headers, status?: number): JsonResponse {
  const end = contextValues?.get(callEndKey);
  if (end !== undefined) end.error = error;
  const isTooLarge = error.findDetails(ErrorInfoSchema).some(({ reason }) => reason === tooLarge);
  return restError(error, header, status ?? (isTooLarge ? 413 : undefined));
}

function routesOf(spec: MethodImplSpec): Route[] {
  const bindings = bindingsOf(spec.method); // refuses streams of requests
  return spec.kind === "unary" || spec.kind === "server_streaming" ? bindings.map((binding) => ({ ...binding, spec })) : [];
}

function nameOf({ spec: { method }, httpMethod, template }: Route): string {
  const path = template.segments.map((segment) => (typeof segment === "object" ? segment.literal : segment)).join("/");
  return `${method.parent.typeName}.${method.name} (${httpMethod} /${path}${template.verb && `:${template.verb}`})`;
}

/** Returns what a path's routes take (RFC 9110, section 10.2.1). */
function allowedOf(routes: readonly Route[]): string[] {
  return [...new Set(routes.flatMap((route) => (takes(route, "HEAD") ? [route.httpMethod, "HEAD"] : [route.httpMethod])))];
}

/** HEAD is answered like GET, but for streams, of which it would be the end that is waited for. */
function takes({ httpMethod, spec }: Route, method: string): boolean {
  return httpMethod === method || httpMethod === "*" || (method === "HEAD" && httpMethod === "GET" && spec.kind === "unary");
}

async function callRoute(
  route: Route,
  pathValues: readonly string[],
  query: URLSearchParams,
  request: UniversalServerRequest,
  options: RestOptions,
): Promise<UniversalServerResponse> {
  const { header } = request;
  const type = header.get("content-type");
  if (route.body !== undefined && type !== null && !/^application\/json\s*(;|$)/i.test(type)) {
    return refuse(request, malformed(`${new URL(request.url).pathname} takes application/json, not ${type}`), new Headers(), 415);
  }
  const encoding = header.get("content-encoding")?.toLowerCase() ?? "identity";
  const compressed = compressions.find(({ name }) => name === encoding);
  if (compressed === undefined && encoding !== "identity") {
    const known = compressions.map(({ name }) => name).join(", ");
    const error = malformed(`a body may be compressed with ${known}, not with ${encoding}`);
    return refuse(request, error, new Headers({ "accept-encoding": known }), 415); // RFC 9110, section 12.5.3
  }
  const form = streamFormOf(header.get("accept"));
  if (route.spec.kind === "server_streaming" && form === eventStream) {
    // An EventSource cannot set headers, so its token may stand in the URL (RFC 6750, section 2.3), which is in no log of ours.
    const token = query.get("access_token");
    query.delete("access_token");
    if (token !== null && !/^[\w.~+/-]+=*$/.test(token)) throw invalidField("access_token", "is no token", "malformed");
    if (token !== null && !header.has("authorization")) header.set("authorization", `Bearer ${token}`);
  }
  const message = await readRequest(route, pathValues, query, async () => {
    assertByteStreamRequest(request);
    try {
      const bytes = await readAllBytes(request.body, options.maxMessageBytes, header.get("content-length"));
      return compressed === undefined ? bytes : await compressed.decompress(bytes, options.maxMessageBytes);
    } catch (error) {
      if (!(error instanceof ConnectError)) throw fail(ErrorReason.CANCELLED, "the request's body did not come to its end");
      throw error.code === Code.ResourceExhausted ? fail(ErrorReason.BODY_TOO_LARGE, `the body is too long: ${error.rawMessage}`) : error;
    }
  });
  const { spec } = route;
  if (spec.kind === "server_streaming") return callStream(route, spec, message, request, form, options);
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
  // By either name of a field, its values are its own.
  for (const [path, pairs] of Map.groupBy(query, ([name]) => canonicalOf(input, name))) {
    const field = findUrlField(input, path);
    const [[name] = [path]] = pairs;
    if (field !== undefined && settable.some((candidate) => pathOf(candidate) === path)) {
      if (pairs.length > 1 && !isRepeated(field)) throw invalidField(name, "stands in the query more than once", "repeated");
      setUrlField(
        json,
        field,
        pairs.map(([, value]) => value),
      );
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

function canonicalOf(message: DescMessage, name: string): string {
  const field = findUrlField(message, name);
  return field === undefined ? name : pathOf(field);
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
    return restError(options.unexpected(error), context.responseHeader);
  } finally {
    context.abort();
  }
}

/**
 * What goes wrong before the first message is an error as any other; later it comes last in the stream. Events
 * begin with a heartbeat where there is no message for long, so that nobody waits for their headers.
 */
async function callStream(
  route: Route,
  spec: MethodImplSpec & { kind: "server_streaming" },
  message: Message,
  request: UniversalServerRequest,
  form: StreamForm,
  options: RestOptions,
): Promise<UniversalServerResponse> {
  const { heartbeatMs = 15_000 } = options;
  const context = openContext(spec, request, options);
  const answers = transformInvokeImplementation(
    spec,
    context,
    options.interceptors,
  )(createAsyncIterable([message]))[Symbol.asyncIterator]();
  const first = answers.next();
  let isLate = false;
  try {
    if (form.heartbeat === undefined) await first;
    else isLate = (await withinTime(first, heartbeatMs)) === undefined;
  } catch (error) {
    context.abort();
    return restError(options.unexpected(error), context.responseHeader);
  }
  async function* write(): AsyncGenerator<string> {
    try {
      if (isLate && form.heartbeat !== undefined) yield form.heartbeat;
      for (let next = await first; next.done !== true; next = await answers.next()) yield form.message(jsonOf(route, next.value));
      yield form.end(toJson(StatusSchema, create(StatusSchema), { alwaysEmitImplicit: true }), false);
    } catch (error) {
      yield form.end(statusJson(options.unexpected(error)), true);
    } finally {
      context.abort();
    }
  }
  const header = context.responseHeader;
  header.set("content-type", form.contentType);
  header.set("cache-control", "no-store");
  header.set("x-accel-buffering", "no"); // nginx holds answers back where nobody says this
  return { status: 200, header, body: encode(withHeartbeat(write(), form.heartbeat, heartbeatMs)) };
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

function jsonOf({ spec, responseBody }: Route, message: Message): JsonValue {
  const json = toJson(spec.method.output, message, { registry: types });
  return responseBody === undefined || !isObject(json) ? json : (json[responseBody.field.jsonName] ?? responseBody.unset);
}

function isObject(json: JsonValue | undefined): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function malformed(description: string): ConnectError {
  return invalidField("", description, "malformed");
}

function invalidField(field: string, description: string, reason: RestViolation): ConnectError {
  return invalidRequest([{ field, description, reason }]);
}
