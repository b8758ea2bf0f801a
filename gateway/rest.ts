import {
  type DescMessage,
  fromJson,
  getOption,
  hasOption,
  type JsonObject,
  type JsonValue,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import { ConnectError, createHandlerContext, type Interceptor, type MethodImplSpec } from "@connectrpc/connect";
import {
  assertByteStreamRequest,
  createAsyncIterable,
  invokeUnaryImplementation,
  readAllBytes,
  type UniversalHandlerFn,
  type UniversalServerRequest,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import { fail, invalidRequest, statusMessageOf } from "@parley/chassis/rpc/errors.ts";
import type { Shutdown } from "@parley/chassis/rpc/shutdown.ts";
import { http } from "@parley/gen/google/api/annotations_pb.js";
import type { HttpRule } from "@parley/gen/google/api/http_pb.js";
import { StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { types } from "./contracts.ts";
import { setField } from "./fields-to-json.ts";
import { comparePathTemplates, matchPath, type PathTemplate, parsePathTemplate } from "./path-template.ts";

export interface RestOptions {
  readonly methods: readonly MethodImplSpec[];
  readonly interceptors: Interceptor[];
  readonly maxMessageBytes: number;
  /** Returns what to show for an error that arises outside of the interceptors. */
  readonly unexpected: (error: unknown) => ConnectError;
  readonly shutdown: Shutdown;
}

type UnarySpec = MethodImplSpec & { kind: "unary" };

interface Route {
  readonly verb: string;
  readonly template: PathTemplate;
  /** The JSON name of the field that the body is; empty: there is no body; `*`: it is the whole request. */
  readonly body: string;
  /** The JSON name of the field of the answer that is sent; empty: all of it. */
  readonly responseBody: string;
  readonly spec: UnarySpec;
}

/**
 * Returns the handler of the unary methods' REST form, as `google.api.http` in their contracts
 * describes it (google/api/http.proto). Errors are `google.rpc.Status` as JSON, under the HTTP
 * status of their code.
 *
 * Throws, naming the methods, on a rule that it cannot follow, and on two methods at one route.
 */
export function createRestHandler(options: RestOptions): UniversalHandlerFn {
  const routes = options.methods.flatMap(routesOf).sort((a, b) => comparePathTemplates(a.template, b.template));
  assertDistinct(routes);
  return async (request) => {
    const { pathname, searchParams } = new URL(request.url);
    const found = routes.flatMap((route) => {
      const values = matchPath(route.template, pathname);
      return values === undefined ? [] : [{ route, values }];
    });
    if (found.length === 0) return errorResponse(fail(ErrorReason.UNKNOWN_ROUTE, `there is nothing at ${pathname}`));
    const match = found.find(({ route }) => route.verb === (request.method === "HEAD" ? "GET" : request.method));
    if (match === undefined) {
      const allow = [...new Set(found.map(({ route }) => route.verb))].join(", ");
      const error = fail(ErrorReason.WRONG_VERB, `${pathname} takes ${allow}, not ${request.method}`);
      return errorResponse(error, new Headers({ allow }), 405);
    }
    const type = request.header.get("content-type");
    if (match.route.body !== "" && type !== null && !/^application\/json\s*(;|$)/i.test(type)) {
      return errorResponse(invalid(`${pathname} takes application/json, not ${type}`), new Headers(), 415);
    }
    try {
      const message = await readRequest(match.route, match.values, searchParams, request, options.maxMessageBytes);
      return await call(match.route, message, request, options);
    } catch (error) {
      return errorResponse(error instanceof ConnectError ? error : options.unexpected(error));
    }
  };
}

function routesOf(spec: MethodImplSpec): Route[] {
  const { method } = spec;
  if (spec.kind !== "unary" || !hasOption(method, http)) return [];
  const rule = getOption(method, http);
  return [rule, ...rule.additionalBindings].map((binding) => {
    try {
      return routeOf(binding, spec);
    } catch (error) {
      throw new Error(`${nameOf(spec)} has a google.api.http rule that cannot be followed`, { cause: error });
    }
  });
}

function routeOf({ pattern, body, responseBody }: HttpRule, spec: UnarySpec): Route {
  if (pattern.case === undefined || pattern.case === "custom") throw new Error("it names none of get, put, post, delete and patch");
  return {
    verb: pattern.case.toUpperCase(),
    template: parsePathTemplate(pattern.value),
    body: body === "*" ? body : jsonNameOf(spec.method.input, body),
    responseBody: jsonNameOf(spec.method.output, responseBody),
    spec,
  };
}

function assertDistinct(routes: readonly Route[]): void {
  const seen = new Map<string, Route>();
  for (const route of routes) {
    const path = route.template.segments.map((segment) => (typeof segment === "string" ? segment : "{}")).join("/");
    const key = `${route.verb} /${path}:${route.template.verb}`;
    const other = seen.get(key);
    if (other !== undefined) throw new Error(`${nameOf(other.spec)} and ${nameOf(route.spec)} have the same route, ${key}`);
    seen.set(key, route);
  }
}

function nameOf({ method }: UnarySpec): string {
  return `${method.parent.typeName}.${method.name}`;
}

function jsonNameOf(schema: DescMessage, name: string): string {
  if (name === "") return name;
  const field = schema.fields.find((candidate) => candidate.name === name);
  if (field === undefined) throw new Error(`${schema.typeName} has no field ${name}`);
  return field.jsonName;
}

/** Fields come from the path, else from the body where the rule names one, else from the query. */
async function readRequest(
  { spec, template, body }: Route,
  pathValues: readonly string[],
  query: URLSearchParams,
  request: UniversalServerRequest,
  maxBytes: number,
): Promise<Message> {
  const { input } = spec.method;
  const content = body === "" ? {} : await readJson(request, maxBytes);
  const json = body === "*" || body === "" ? content : { [body]: content };
  const isMessage = body === "*" || input.fields.some(({ jsonName, fieldKind }) => jsonName === body && fieldKind === "message");
  if (!isObject(json) || (isMessage && !isObject(content))) throw invalid("the body is not a JSON object");
  for (const [name, value] of query) {
    const [first = ""] = name.split(".");
    const isOfBody =
      body === "*" || (body !== "" && input.fields.some((field) => field.jsonName === body && [field.name, body].includes(first)));
    if (isOfBody) throw invalid(`${name} stands in the query, but goes into the body`);
    setField(input, name, value, json);
  }
  const variables = template.segments.filter((segment) => typeof segment === "object");
  for (const [index, { field }] of variables.entries()) setField(input, field, pathValues[index] ?? "", json);
  try {
    return fromJson(input, json, { registry: types });
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error));
  }
}

async function readJson(request: UniversalServerRequest, maxBytes: number): Promise<JsonValue> {
  assertByteStreamRequest(request);
  const bytes = await readAllBytes(request.body, maxBytes, request.header.get("content-length"));
  if (bytes.byteLength === 0) return {};
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw invalid(`the body is not JSON: ${error instanceof Error ? error.message : error}`);
  }
}

async function call(
  { spec, responseBody }: Route,
  message: Message,
  request: UniversalServerRequest,
  { interceptors, shutdown, unexpected }: RestOptions,
): Promise<UniversalServerResponse> {
  const { method } = spec;
  const context = createHandlerContext({
    service: method.parent,
    method,
    protocolName: "rest",
    requestMethod: request.method,
    url: request.url,
    requestHeader: request.header,
    requestSignal: request.signal,
    shutdownSignal: shutdown.signalFor(spec.kind),
    ...(request.contextValues && { contextValues: request.contextValues }),
  });
  try {
    const answer = toJson(method.output, await invokeUnaryImplementation(spec, context, message, interceptors), { registry: types });
    return jsonResponse(responseBody !== "" && isObject(answer) ? (answer[responseBody] ?? null) : answer, context.responseHeader, 200);
  } catch (error) {
    return errorResponse(error instanceof ConnectError ? error : unexpected(error), context.responseHeader);
  } finally {
    context.abort();
  }
}

function errorResponse(error: ConnectError, header = new Headers(), status = codeToHttpStatus(error.code)): UniversalServerResponse {
  const message = statusMessageOf(error);
  for (const [key, value] of error.metadata) header.append(key, value);
  // What is not known cannot be written as JSON.
  message.details = message.details.filter(({ typeUrl }) => types.getMessage(typeUrl.slice(typeUrl.lastIndexOf("/") + 1)) !== undefined);
  return jsonResponse(toJson(StatusSchema, message, { registry: types }), header, status);
}

function jsonResponse(json: JsonValue, header: Headers, status: number): UniversalServerResponse {
  const body = new TextEncoder().encode(JSON.stringify(json));
  header.set("content-type", "application/json");
  header.set("content-length", String(body.byteLength));
  return { status, header, body: createAsyncIterable([body]) };
}

function isObject(json: JsonValue): json is JsonObject {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function invalid(description: string): ConnectError {
  return invalidRequest([{ field: "", description, reason: "malformed" }]);
}
