import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import type { Interceptor } from "@connectrpc/connect";
import { findCurrentCall } from "../current-call.ts";
import { isRedacted } from "../redact.ts";

/** The field of a request by which it can be repeated; the log's `request_id` is another, of the whole chain of calls. */
const requestIdField = "request_id";

/** The longest id that is noted, in characters: what comes in may be anything. */
const maxLength = 128;

/** Notes what a unary call is about, by the ids in its request and its answer, for the lines of the log that belong to it. */
export const about: Interceptor = (next) => async (req) => {
  const ids = findCurrentCall()?.about;
  if (ids !== undefined && !req.stream) addIds(ids, req.method.input, req.message);
  const response = await next(req);
  if (ids !== undefined && !response.stream) addIds(ids, response.method.output, response.message);
  return response;
};

/**
 * Adds what a message is about: its own fields that are ids, such as `order_id`, and those of the resource that it holds, by their
 * names in the contract. Lists say nothing, nor do fields that are to be redacted.
 */
export function addIds(about: Map<string, string>, schema: DescMessage, message: Message): void {
  const { ids, resources } = fieldsOf(schema);
  if (ids.length === 0 && resources.length === 0) return;
  const reflected = reflect(schema, message);
  for (const field of resources) {
    if (!reflected.isSet(field)) continue;
    const resource = reflected.get(field);
    for (const id of fieldsOf(field.message).ids) {
      const value = resource.get(id);
      if (typeof value === "string" && value !== "") about.set(id.name, value.slice(0, maxLength));
    }
  }
  for (const field of ids) {
    const value = reflected.get(field);
    if (typeof value === "string" && value !== "") about.set(field.name, value.slice(0, maxLength));
  }
}

interface Fields {
  readonly ids: readonly DescField[];
  readonly resources: readonly Extract<DescField, { fieldKind: "message" }>[];
}

const known = new WeakMap<DescMessage, Fields>();

function fieldsOf(schema: DescMessage): Fields {
  const before = known.get(schema);
  if (before !== undefined) return before;
  const fields = {
    ids: schema.fields.filter((field) => field.fieldKind === "scalar" && isId(field)),
    resources: schema.fields
      .filter((field) => field.fieldKind === "message")
      .filter((field) => !isRedacted(field) && field.message.fields.some(isId)),
  };
  known.set(schema, fields);
  return fields;
}

function isId(field: DescField): boolean {
  return field.name.endsWith("_id") && field.name !== requestIdField && !isRedacted(field);
}
