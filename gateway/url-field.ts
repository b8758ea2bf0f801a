import { type DescField, type DescMessage, type JsonObject, type JsonValue, ScalarType } from "@bufbuild/protobuf";

/** A field of a request that a URL can set: the fields that lead to it, and itself. */
export type UrlField = readonly [...DescField[], DescField];

/** Messages whose JSON form is one value of text, a number or a boolean (ProtoJSON; proto/google/protobuf/*.proto). */
const valueTypes: ReadonlySet<string> = new Set(
  ["Timestamp", "Duration", "FieldMask", "StringValue", "BytesValue", "BoolValue"]
    .concat("DoubleValue", "FloatValue", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value")
    .map((name) => `google.protobuf.${name}`),
);

/** Returns the field at a path such as `address.city`, by the contract's names or those of JSON; undefined where there is none that a URL can set. */
export function findUrlField(schema: DescMessage, path: string): UrlField | undefined {
  let message: DescMessage | undefined = schema;
  const fields: DescField[] = [];
  for (const name of path.split(".")) {
    const field: DescField | undefined = message?.fields.find((candidate) => candidate.name === name || candidate.jsonName === name);
    if (field === undefined) return undefined;
    fields.push(field);
    message = field.fieldKind === "message" ? field.message : undefined;
  }
  const field = fields.pop();
  return field !== undefined && isSettable(field) ? [...fields, field] : undefined;
}

/**
 * Lists the fields that a query can set, those of inner messages too, but for those at the paths in `bound`.
 *
 * Throws on a field that no query can set: a map, or messages that are repeated.
 */
export function listUrlFields(schema: DescMessage, bound: ReadonlySet<string>): UrlField[] {
  const list = (message: DescMessage, parents: readonly DescField[]): UrlField[] =>
    message.fields.flatMap((field): UrlField[] => {
      const path: UrlField = [...parents, field];
      if (bound.has(pathOf(path))) return [];
      if (isSettable(field)) return [path];
      if (field.fieldKind !== "message") throw new Error(`no query can set its field ${pathOf(path)}, which has more than one value`);
      // What a message holds of its own type, no query has an end for.
      return parents.some((parent) => parent.message === field.message) ? [] : list(field.message, path);
    });
  return list(schema, []);
}

/** Returns a field's path by the names of the contract, such as `shipping_address.city`. */
export function pathOf(field: UrlField): string {
  return field.map(({ name }) => name).join(".");
}

/** Returns a field's path by the names of JSON, such as `shippingAddress.city`. */
export function jsonPathOf(field: UrlField): string {
  return field.map(({ jsonName }) => jsonName).join(".");
}

/** Returns those of the paths that lead into a field's message, from there on. */
export function pathsWithin({ name }: DescField, paths: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...paths].filter((path) => path.startsWith(`${name}.`)).map((path) => path.slice(name.length + 1)));
}

export function isRepeated(field: UrlField): boolean {
  return field.at(-1)?.fieldKind === "list";
}

/**
 * Sets a field in a request's JSON form from text as a URL has it: numbers, `true`, an enum's name
 * or number, or what the JSON form of a well-known type is. What is there of it is replaced.
 */
export function setUrlField(json: JsonObject, field: UrlField, texts: readonly string[]): void {
  let target = json;
  for (const step of field.slice(0, -1)) {
    const inner = takeField(target, step);
    const next: JsonObject = typeof inner === "object" && inner !== null && !Array.isArray(inner) ? inner : {};
    target[step.jsonName] = next;
    target = next;
  }
  const last = field[field.length - 1];
  if (last === undefined) return;
  takeField(target, last);
  const values = texts.map((text) => jsonOf(last, text));
  target[last.jsonName] = last.fieldKind === "list" ? values : (values[0] ?? null);
}

/** Returns a field's value and removes it: JSON may have it under either name, and fromJson refuses both. */
function takeField(json: JsonObject, { name, jsonName }: DescField): JsonValue | undefined {
  const value = Object.hasOwn(json, jsonName) ? json[jsonName] : Object.hasOwn(json, name) ? json[name] : undefined;
  delete json[name];
  delete json[jsonName];
  return value;
}

function isSettable(field: DescField): boolean {
  if (field.fieldKind === "list") return field.listKind !== "message";
  return field.fieldKind === "message" ? valueTypes.has(field.message.typeName) : field.fieldKind !== "map";
}

function jsonOf(field: DescField, text: string): JsonValue {
  if (field.enum !== undefined) return /^-?\d+$/.test(text) ? Number(text) : text;
  // Paths as the contract has them, too; the JSON form knows lowerCamelCase alone.
  if (field.message?.typeName === "google.protobuf.FieldMask")
    return text.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const isBoolean = field.scalar === ScalarType.BOOL || field.message?.typeName === "google.protobuf.BoolValue";
  return isBoolean && (text === "true" || text === "false") ? text === "true" : text;
}
