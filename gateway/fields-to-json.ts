import { type DescField, type DescMessage, type JsonObject, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { invalidRequest } from "@parley/chassis/rpc/errors.ts";

/**
 * Sets a field, named by its path such as `address.city`, in a message's JSON form, from text as
 * a URL has it: numbers, `true`, an enum's name or number, or what the JSON form of a well-known
 * type is. A repeated field gets one value more; any other is replaced.
 *
 * Throws `INVALID_REQUEST` where the message has no such field.
 */
export function setField(schema: DescMessage, path: string, text: string, json: JsonObject): void {
  let [message, target] = [schema, json];
  const names = path.split(".");
  for (const [index, name] of names.entries()) {
    const field = message.fields.find((candidate) => candidate.name === name || candidate.jsonName === name);
    if (field === undefined) throw noSuchField(path, schema);
    if (field.name !== field.jsonName && field.name in target) {
      // A body may say either name.
      target[field.jsonName] ??= target[field.name] ?? null;
      delete target[field.name];
    }
    if (index === names.length - 1) {
      const value = toJsonValue(field, text);
      if (value === undefined) throw noSuchField(path, schema);
      const before = target[field.jsonName];
      target[field.jsonName] = field.fieldKind !== "list" ? value : Array.isArray(before) ? [...before, value] : [value];
    } else {
      if (field.fieldKind !== "message") throw noSuchField(path, schema);
      const inner = target[field.jsonName];
      const next: JsonObject = typeof inner === "object" && inner !== null && !Array.isArray(inner) ? inner : {};
      target[field.jsonName] = next;
      [message, target] = [field.message, next];
    }
  }
}

/** Returns undefined for what a URL cannot hold: maps, lists of messages, and messages without a JSON form of one value. */
function toJsonValue(field: DescField, text: string): JsonValue | undefined {
  const kind = field.fieldKind === "list" ? field.listKind : field.fieldKind;
  switch (kind) {
    case "scalar":
      return field.scalar === ScalarType.BOOL && (text === "true" || text === "false") ? text === "true" : text;
    case "enum":
      return /^-?\d+$/.test(text) ? Number(text) : text;
    case "message":
      // Paths as the contract has them, too; the JSON form knows lowerCamelCase alone.
      if (field.message?.typeName === "google.protobuf.FieldMask")
        return text.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
      return field.fieldKind === "message" && field.message.typeName.startsWith("google.protobuf.") ? text : undefined;
    default:
      return undefined;
  }
}

function noSuchField(path: string, schema: DescMessage): Error {
  return invalidRequest([{ field: path, description: `${schema.typeName} has no such field that a URL can set`, reason: "unknown_field" }]);
}
