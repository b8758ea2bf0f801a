import {
  create,
  type DescField,
  type DescMessage,
  type DescMethod,
  getOption,
  hasOption,
  type JsonValue,
  toJson,
} from "@bufbuild/protobuf";
import { http } from "@parley/gen/google/api/annotations_pb.js";
import type { HttpRule } from "@parley/gen/google/api/http_pb.js";
import { type PathTemplate, parsePathTemplate } from "./path-template.ts";
import { findUrlField, isRepeated, listUrlFields, pathOf, type UrlField } from "./url-field.ts";

/** One REST form of a method: which part of a request is which part of its message. */
export interface Binding {
  /** The HTTP method; `*`: any. */
  readonly httpMethod: string;
  readonly template: PathTemplate;
  /** The field that each of the template's variables sets. */
  readonly variables: readonly UrlField[];
  /** The field that the body is; `*`: the body is the request but for the path's fields; undefined: there is no body. */
  readonly body: DescField | "*" | undefined;
  /** The fields that the query may set. */
  readonly query: readonly UrlField[];
  /** The field of the answer that is sent, with its value in JSON where it is not set; undefined: all of the answer. */
  readonly responseBody: { readonly field: DescField; readonly unset: JsonValue } | undefined;
}

/**
 * Returns the REST forms of a method by its `google.api.http` rule (google/api/http.proto); none where
 * it has no rule.
 *
 * Throws, naming the method, on a rule that cannot be followed.
 */
export function bindingsOf(method: DescMethod): Binding[] {
  if (!hasOption(method, http)) return [];
  try {
    const rule = getOption(method, http);
    if (rule.additionalBindings.some(({ additionalBindings }) => additionalBindings.length > 0))
      throw new Error("its additional_bindings have additional_bindings");
    return [rule, ...rule.additionalBindings].map((binding) => createBinding(binding, method));
  } catch (error) {
    const { message } = error instanceof Error ? error : new Error(String(error));
    throw new Error(`${method.parent.typeName}.${method.name} has a google.api.http rule that cannot be followed: ${message}`);
  }
}

/** Reads one rule, without its additional bindings. Throws where it breaks what http.proto says. */
export function createBinding({ pattern, body, responseBody }: HttpRule, { input, output, methodKind }: DescMethod): Binding {
  if (methodKind === "client_streaming" || methodKind === "bidi_streaming") throw new Error("a stream of requests has no REST form");
  if (pattern.case === undefined) throw new Error("it has no path");
  const [httpMethod, path] =
    pattern.case === "custom" ? [pattern.value.kind, pattern.value.path] : [pattern.case.toUpperCase(), pattern.value];
  if (!/^([A-Z-]+|\*)$/.test(httpMethod)) throw new Error(`its custom kind "${httpMethod}" is neither an HTTP method nor *`);
  if (body !== "" && (httpMethod === "GET" || httpMethod === "HEAD")) throw new Error(`a request of ${httpMethod} has no body`);
  const template = parsePathTemplate(path);
  const variables = template.variables.map(({ field }) => pathField(input, field));
  const bodyField = body === "*" || body === "" ? undefined : topField(input, body);
  const bound = new Set([...variables.map(pathOf), ...(bodyField === undefined ? [] : [bodyField.name])]);
  return {
    httpMethod,
    template,
    variables,
    body: body === "*" ? body : bodyField,
    query: body === "*" ? [] : listUrlFields(input, bound),
    responseBody: responseBody === "" ? undefined : responseField(output, responseBody),
  };
}

function pathField(message: DescMessage, path: string): UrlField {
  const field = findUrlField(message, path);
  if (field === undefined || isRepeated(field) || field.at(-1)?.fieldKind === "message")
    throw new Error(`${message.typeName} has no field ${path} of a single value, as a path needs`);
  return field;
}

function topField(message: DescMessage, name: string): DescField {
  const field = message.fields.find((candidate) => candidate.name === name);
  if (field === undefined) throw new Error(`${message.typeName} has no field ${name}`);
  return field;
}

function responseField(message: DescMessage, name: string): { field: DescField; unset: JsonValue } {
  const field = topField(message, name);
  const json = toJson(message, create(message), { alwaysEmitImplicit: true });
  const unset = typeof json === "object" && json !== null && !Array.isArray(json) ? json[field.jsonName] : undefined;
  return { field, unset: unset ?? null };
}
