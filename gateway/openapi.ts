import {
  type DescEnum,
  type DescField,
  type DescMethod,
  type DescService,
  getOption,
  hasOption,
  type JsonObject,
  type Registry,
} from "@bufbuild/protobuf";
import type { Code } from "@connectrpc/connect";
import { codeToHttpStatus } from "@connectrpc/connect/protocol-connect";
import { accessOf, deadlineMsOf, isIdempotent } from "@parley/chassis/rpc/contract.ts";
import { CodeSchema } from "@parley/gen/google/rpc/code_pb.js";
import { StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import { Access, reason as reasonOption } from "@parley/gen/parley/options/v1/options_pb.js";
import { commentOf, firstSentenceOf } from "./comments.ts";
import { type Binding, bindingsOf } from "./http-rule.ts";
import { createSchemas, type Schemas } from "./json-schema.ts";
import { jsonPathOf, pathOf, pathsWithin, type UrlField } from "./url-field.ts";

/** Those that OpenAPI has a place for (OpenAPI 3.1, Path Item Object). */
const httpMethods = new Set(["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]);

const info = `What the suite offers over REST, made from its contracts as they run.

Every method, those without a REST form too, is also served over [Connect](https://connectrpc.com/docs/protocol), gRPC-Web and gRPC, at \`/<package>.<Service>/<Method>\`.

JSON is [ProtoJSON](https://protobuf.dev/programming-guides/json/): whole numbers of 64 bits are texts, and what is zero, empty or false is left out of answers. Fields that a request has and its contract has not are refused. An error is a \`google.rpc.Status\`, whose details begin with a \`google.rpc.ErrorInfo\`: programs react to its \`reason\`, one of the \`ErrorReason\` of its \`domain\`.`;

/** Why calls fail, of one area. */
interface Reason {
  readonly name: string;
  /** Its gRPC code's name, such as `NOT_FOUND`. */
  readonly code: string;
  readonly number: number;
  /** The package of its area. */
  readonly domain: string;
  readonly status: number;
  readonly comment: string;
}

/**
 * Returns the OpenAPI 3.1 document of the contracts' REST forms: routes and schemas from
 * their rules, security from `access`, errors from the reasons that a method's comment names.
 */
export function createOpenApi(contracts: readonly DescService[], types: Registry, version: string): JsonObject {
  const schemas = createSchemas();
  const status = types.getMessage(StatusSchema.typeName) ?? StatusSchema;
  const reasonSchemas = new Map<string, JsonObject>();
  const reasonsIn = (packageName: string): Reason[] => {
    const reasons = reasonsOf(types.getEnum(`${packageName}.ErrorReason`));
    if (reasons.length > 0) reasonSchemas.set(`${packageName}.ErrorReason`, reasonSchema(reasons));
    return reasons;
  };
  const common = reasonsIn("parley.errors.v1");
  const paths = new Map<string, { names: readonly string[]; item: JsonObject }>();
  const documented = new Map<string, JsonObject>();
  for (const contract of contracts) {
    const reasons = reasonsIn(contract.file.proto.package);
    for (const method of contract.methods) {
      for (const [index, binding] of bindingsOf(method).entries()) {
        if (!httpMethods.has(binding.httpMethod)) continue;
        const wildcards = wildcardsOf(binding);
        // Paths that differ by the names of their variables alone are the same one, with the names of the first.
        const shape = writePath(
          binding,
          wildcards.map(() => ""),
        );
        const entry = paths.get(shape) ?? { names: wildcards.map(({ name }) => name), item: {} };
        paths.set(shape, entry);
        documented.set(writePath(binding, entry.names), entry.item);
        const operationId = `${contract.name}_${method.name}${index === 0 ? "" : `_${index + 1}`}`;
        entry.item[binding.httpMethod.toLowerCase()] = {
          operationId,
          tags: [contract.name],
          ...operationOf(
            method,
            binding,
            schemas,
            wildcards.map(({ field }, at) => ({ name: entry.names[at] ?? "", field })),
          ),
          responses: {
            200: answerOf(method, binding, schemas, schemas.messageRef(status)),
            ...errorsOf(method, [...reasons, ...common], schemas.messageRef(status)),
          },
        };
      }
    }
  }
  const tags = contracts
    .filter((contract) => contract.methods.some((method) => bindingsOf(method).length > 0))
    .map((contract) => ({ name: contract.name, description: commentOf(contract) }));
  return {
    openapi: "3.1.0",
    info: { title: "Parley", version, description: info, license: { name: "Apache-2.0", identifier: "Apache-2.0" } },
    servers: [{ url: "/" }],
    tags,
    paths: Object.fromEntries(documented),
    components: {
      schemas: { ...schemas.components(), ...Object.fromEntries(reasonSchemas) },
      securitySchemes: {
        token: {
          type: "http",
          scheme: "bearer",
          bearerFormat: "JWT",
          description: "A token of a user. On a laptop: `npm run -s token -- --subject alice --role customer`.",
        },
      },
    },
  };
}

/** A wildcard of a template, as OpenAPI has it: a variable of one segment. */
interface Wildcard {
  readonly name: string;
  /** The field whose value it is; undefined where it is only a part of one, or of none. */
  readonly field: DescField | undefined;
}

function wildcardsOf({ template: { segments, variables }, variables: fields }: Binding): Wildcard[] {
  const isWildcard = (position: number): boolean => typeof segments[position] === "string";
  return [...segments.keys()].filter(isWildcard).map((position) => {
    const index = variables.findIndex(({ start, end }) => start <= position && position < end);
    const variable = variables[index] ?? { start: 0, end: segments.length };
    const name = fields[index]?.at(-1)?.jsonName ?? "segment";
    const isOnly = [...segments.keys()].slice(variable.start, variable.end).filter(isWildcard).length === 1;
    const isWhole = variable.end - variable.start === 1;
    return { name: isOnly ? name : `${name}${position}`, field: isWhole ? fields[index]?.at(-1) : undefined };
  });
}

/** Writes a template with these names for its wildcards. */
function writePath({ template: { segments, verb } }: Binding, names: readonly string[]): string {
  const rest = [...names];
  const parts = segments.map((segment) => (typeof segment === "object" ? encodeURIComponent(segment.literal) : `{${rest.shift()}}`));
  return `/${parts.join("/")}${verb && `:${verb}`}`;
}

function operationOf(method: DescMethod, binding: Binding, schemas: Schemas, wildcards: readonly Wildcard[]): JsonObject {
  const comment = commentOf(method);
  const access = accessOf(method);
  const roles = access.filter((role) => role !== Access.PUBLIC).map((role) => Access[role].toLowerCase());
  const isPublic = access.includes(Access.PUBLIC);
  const deadlineMs = deadlineMsOf(method);
  const facts = [
    `Who may call: ${isPublic ? "anyone" : roles.join(", ")}.`,
    `Deadline: ${deadlineMs === undefined ? "none" : `${deadlineMs / 1_000} s`}.`,
    `May be repeated: ${isIdempotent(method) ? "yes" : "no"}.`,
  ];
  const body = bodyOf(method, binding, schemas);
  const path = wildcards.map(({ name, field }) =>
    requiredParameter(parameterOf(name, "path", field === undefined ? { type: "string" } : schemas.field(field))),
  );
  return {
    summary: firstSentenceOf(comment),
    description: `${comment}\n\n${facts.join(" ")}`,
    security: isPublic ? [] : [{ token: roles }],
    parameters: [...path, ...binding.query.map((field) => queryParameterOf(field, schemas))],
    ...(body !== undefined && { requestBody: body }),
  };
}

function queryParameterOf(field: UrlField, schemas: Schemas): JsonObject {
  const last = field[field.length - 1];
  if (last === undefined) return {};
  const isRequired = field.length === 1 && schemas.isRequired(last);
  const parameter = parameterOf(jsonPathOf(field), "query", schemas.field(last));
  return isRequired ? requiredParameter(parameter) : parameter;
}

/** What must be given comes filled in. */
function requiredParameter(parameter: JsonObject): JsonObject {
  const schema = parameter["schema"];
  const examples = typeof schema === "object" && schema !== null && !Array.isArray(schema) ? schema["examples"] : undefined;
  return { ...parameter, required: true, ...(Array.isArray(examples) && examples[0] !== undefined && { example: examples[0] }) };
}

function parameterOf(name: string, place: "path" | "query", { description, ...schema }: JsonObject): JsonObject {
  return { name, in: place, ...(description !== undefined && { description }), schema };
}

function bodyOf({ input }: DescMethod, { body, variables }: Binding, schemas: Schemas): JsonObject | undefined {
  if (body === undefined) return undefined;
  const bound = new Set(variables.map(pathOf));
  let schema: JsonObject;
  if (body === "*") schema = bound.size === 0 ? schemas.messageRef(input) : schemas.message(input, bound);
  else {
    const inner = pathsWithin(body, bound);
    schema = inner.size > 0 && body.message !== undefined ? schemas.message(body.message, inner) : schemas.field(body);
  }
  const isRequired =
    body === "*" ? input.fields.some((field) => !bound.has(field.name) && schemas.isRequired(field)) : schemas.isRequired(body);
  return { required: isRequired, content: { "application/json": { schema } } };
}

function answerOf(method: DescMethod, { responseBody }: Binding, schemas: Schemas, status: JsonObject): JsonObject {
  const schema = responseBody === undefined ? schemas.messageRef(method.output) : schemas.field(responseBody.field);
  if (method.methodKind === "unary") return { description: "OK", content: { "application/json": { schema } } };
  return {
    description:
      "Never ends in a page such as this one: try it with `curl -N`. A line of JSON for each message, and at the end one with an error where the stream failed. Or, where the client accepts `text/event-stream`, an event for each message and at the end one named `status` with a `google.rpc.Status`, on which an `EventSource` is to be closed, or it asks again; its token may stand in the query as `access_token`.",
    content: {
      "application/x-ndjson": { schema: { oneOf: [wrapped("result", schema), wrapped("error", status)] } },
      "text/event-stream": { schema: { type: "string" } },
    },
  };
}

function wrapped(name: string, schema: JsonObject): JsonObject {
  return { type: "object", properties: { [name]: schema }, required: [name] };
}

/** A response for each HTTP status that the method may fail with, by its own reasons and those that any method has. */
function errorsOf(method: DescMethod, reasons: readonly Reason[], status: JsonObject): JsonObject {
  const comment = commentOf(method);
  const isPublic = accessOf(method).includes(Access.PUBLIC);
  const general = ["INVALID_REQUEST", "UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RATE_LIMITED", "TOO_MANY_CALLS"].concat(
    isPublic ? [] : ["UNAUTHENTICATED", "PERMISSION_DENIED"],
  );
  const possible = reasons.filter(({ name }) => general.includes(name) || comment.includes(`\`${name}\``));
  const byStatus = Map.groupBy(possible, (reason) => reason.status);
  const errors = [...byStatus].map(([httpStatus, some]) => [
    httpStatus,
    { description: some.map(reasonText).join("\n"), content: { "application/json": { schema: status, example: some.map(exampleOf)[0] } } },
  ]);
  const other = {
    description: "What fails before there is a call: 404, 405, 408, 415, 431.",
    content: { "application/json": { schema: status } },
  };
  return { ...Object.fromEntries(errors), default: other };
}

function reasonsOf(desc: DescEnum | undefined): Reason[] {
  return (desc?.values ?? [])
    .filter((value) => hasOption(value, reasonOption))
    .map((value) => {
      const { code } = getOption(value, reasonOption);
      // Connect's codes are gRPC's, under the same numbers.
      const number: number = code;
      return {
        name: value.localName,
        number,
        domain: value.parent.file.proto.package,
        code: CodeSchema.value[code].name,
        status: codeToHttpStatus(number as Code),
        comment: commentOf(value),
      };
    });
}

function exampleOf({ name, number, domain, comment }: Reason): JsonObject {
  const details = [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: name, domain }];
  return { code: number, message: firstSentenceOf(comment), details };
}

function reasonText({ name, code, comment }: Reason): string {
  return `- \`${name}\` (${code}): ${comment}`;
}

/** The reasons of an area as a schema, so that a client made from the document knows them by name. */
function reasonSchema(reasons: readonly Reason[]): JsonObject {
  return { type: "string", description: reasons.map(reasonText).join("\n"), enum: reasons.map(({ name }) => name) };
}
