import {
  create,
  type DescEnum,
  type DescField,
  type DescMessage,
  getOption,
  hasOption,
  type JsonObject,
  type JsonValue,
  ScalarType,
  toJson,
} from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import {
  type FieldRules,
  FieldRulesSchema,
  field as fieldOption,
  oneof as oneofOption,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { commentOf } from "./comments.ts";
import { pathsWithin } from "./url-field.ts";

/** Makes JSON Schemas (2020-12, as OpenAPI 3.1 has them) of what contracts say, and keeps those that others refer to. */
export interface Schemas {
  /** Returns a reference to a message's schema. */
  messageRef(message: DescMessage): JsonObject;
  /** Returns a message's schema itself, without the fields at the paths in `without`. */
  message(message: DescMessage, without?: ReadonlySet<string>): JsonObject;
  /** Returns a field's schema, with its rules and its comment. */
  field(field: DescField): JsonObject;
  /** Returns whether a message without the field breaks a rule. */
  isRequired(field: DescField): boolean;
  /** All schemas that were referred to, by their names. */
  components(): JsonObject;
}

const text = { type: "string" };
const int64 = { type: "string", format: "int64", pattern: "^-?[0-9]+$", examples: ["1"] };
/** NaN and the infinities are texts in ProtoJSON; no field of ours has them. */
const float = { type: "number" };
const int32 = { type: "integer", format: "int32" };

const scalarSchemas: Readonly<Record<ScalarType, JsonObject>> = {
  [ScalarType.STRING]: text,
  [ScalarType.BYTES]: { type: "string", contentEncoding: "base64" },
  [ScalarType.BOOL]: { type: "boolean" },
  [ScalarType.DOUBLE]: float,
  [ScalarType.FLOAT]: float,
  [ScalarType.INT32]: int32,
  [ScalarType.SINT32]: int32,
  [ScalarType.SFIXED32]: int32,
  [ScalarType.UINT32]: { type: "integer", minimum: 0 },
  [ScalarType.FIXED32]: { type: "integer", minimum: 0 },
  [ScalarType.INT64]: int64,
  [ScalarType.SINT64]: int64,
  [ScalarType.SFIXED64]: int64,
  [ScalarType.UINT64]: { ...int64, format: "uint64", pattern: "^[0-9]+$" },
  [ScalarType.FIXED64]: { ...int64, format: "uint64", pattern: "^[0-9]+$" },
};

/** Messages with a JSON form of their own (ProtoJSON). */
const wellKnownSchemas: Readonly<Record<string, JsonObject>> = {
  "google.protobuf.Timestamp": { type: "string", format: "date-time", examples: ["2026-11-26T08:30:00Z"] },
  "google.protobuf.Duration": { type: "string", pattern: "^-?[0-9]+(\\.[0-9]{1,9})?s$", examples: ["1.5s"] },
  "google.protobuf.FieldMask": text,
  "google.protobuf.Struct": { type: "object" },
  "google.protobuf.Value": {},
  "google.protobuf.ListValue": { type: "array", items: {} },
  "google.protobuf.NullValue": { type: "null" },
  "google.protobuf.Any": { type: "object", properties: { "@type": text }, required: ["@type"], additionalProperties: true },
  "google.protobuf.StringValue": { type: ["string", "null"] },
  "google.protobuf.BytesValue": { type: ["string", "null"], contentEncoding: "base64" },
  "google.protobuf.BoolValue": { type: ["boolean", "null"] },
  "google.protobuf.DoubleValue": { type: ["number", "null"] },
  "google.protobuf.FloatValue": { type: ["number", "null"] },
  "google.protobuf.Int32Value": { type: ["integer", "null"] },
  "google.protobuf.UInt32Value": { type: ["integer", "null"], minimum: 0 },
  "google.protobuf.Int64Value": { ...int64, type: ["string", "null"] },
  "google.protobuf.UInt64Value": { ...int64, type: ["string", "null"], format: "uint64" },
};

/** Formats of JSON Schema and OpenAPI for `buf.validate`'s well-known texts. */
const formats: Readonly<Record<string, string>> = {
  email: "email",
  hostname: "hostname",
  ipv4: "ipv4",
  ipv6: "ipv6",
  uri: "uri",
  uriRef: "uri-reference",
  uuid: "uuid",
};

export function createSchemas(): Schemas {
  const validator = createValidator();
  const made: JsonObject = {};
  const required = new Map<DescMessage, ReadonlySet<string>>();

  const messageRef = (desc: DescMessage): JsonObject => {
    const wellKnown = wellKnownSchemas[desc.typeName];
    if (wellKnown !== undefined) return wellKnown;
    if (made[desc.typeName] === undefined) {
      made[desc.typeName] = {}; // it may refer to itself
      made[desc.typeName] = message(desc);
    }
    return { $ref: `#/components/schemas/${desc.typeName}` };
  };

  const enumRef = (desc: DescEnum): JsonObject => {
    made[desc.typeName] ??= {
      type: "string",
      description: [commentOf(desc), ...desc.values.map((value) => `- \`${value.name}\`: ${commentOf(value)}`)].join("\n"),
      enum: desc.values.map(({ name }) => name),
    };
    return { $ref: `#/components/schemas/${desc.typeName}` };
  };

  /** What a message without anything violates, asked of the validator itself. */
  const isRequired = (desc: DescField): boolean => {
    const { parent } = desc;
    let names = required.get(parent);
    if (names === undefined) {
      const { violations = [] } = validator.validate(parent, create(parent));
      names = new Set(violations.flatMap(({ field: [first] }) => (first?.kind === "field" ? [first.name] : [])));
      required.set(parent, names);
    }
    return names.has(desc.name);
  };

  function message(desc: DescMessage, without: ReadonlySet<string> = new Set()): JsonObject {
    const fields = desc.fields.filter(({ name }) => !without.has(name));
    const properties = fields.map((one) => {
      const inner = pathsWithin(one, without);
      return [one.jsonName, inner.size > 0 && one.fieldKind === "message" ? message(one.message, inner) : field(one)] as const;
    });
    const needed = fields.filter(isRequired).map(({ jsonName }) => jsonName);
    const choices = desc.oneofs.flatMap((oneof): JsonObject[] => {
      const names = oneof.fields.map(({ jsonName }) => jsonName);
      const pairs = names.flatMap((one, index) => names.slice(index + 1).map((other) => ({ not: { required: [one, other] } })));
      return getOption(oneof, oneofOption).required ? [...pairs, { anyOf: names.map((name) => ({ required: [name] })) }] : pairs;
    });
    return {
      type: "object",
      ...described(commentOf(desc)),
      properties: Object.fromEntries(properties),
      ...(needed.length > 0 && { required: needed }),
      ...(choices.length > 0 && { allOf: choices }),
    };
  }

  function field(desc: DescField): JsonObject {
    const rules = hasOption(desc, fieldOption) ? getOption(desc, fieldOption) : create(FieldRulesSchema);
    const own = { ...described(descriptionOf(desc, rules)), ...(desc.proto.options?.deprecated === true && { deprecated: true }) };
    switch (desc.fieldKind) {
      case "list": {
        const { minItems, maxItems, unique, items } = rules.type.case === "repeated" ? rules.type.value : {};
        return {
          type: "array",
          items: { ...typeOf(desc), ...keywordsOf(desc, items ?? create(FieldRulesSchema)) },
          ...limits("Items", minItems, maxItems),
          ...(unique === true && { uniqueItems: true }),
          ...own,
        };
      }
      case "map": {
        const { minPairs, maxPairs, values } = rules.type.case === "map" ? rules.type.value : {};
        return {
          type: "object",
          additionalProperties: { ...typeOf(desc), ...keywordsOf(desc, values ?? create(FieldRulesSchema)) },
          ...limits("Properties", minPairs, maxPairs),
          ...own,
        };
      }
      default:
        return { ...typeOf(desc), ...keywordsOf(desc, rules), ...own };
    }
  }

  /** The type of a field, or of the elements of a list or map. */
  function typeOf(desc: DescField): JsonObject {
    if (desc.message !== undefined) return messageRef(desc.message);
    if (desc.enum !== undefined) return enumRef(desc.enum);
    return desc.scalar === undefined ? {} : scalarSchemas[desc.scalar];
  }

  return { messageRef, message, field, isRequired, components: () => made };
}

/** A rule in CEL is told by its message, which JSON Schema has no keyword for. */
function descriptionOf(desc: DescField, rules: FieldRules): string {
  return [commentOf(desc), ...rules.cel.map(({ message }) => (message === "" ? "" : `It ${message}.`))].filter(Boolean).join(" ");
}

function described(description: string): JsonObject {
  return description === "" ? {} : { description };
}

function limits(what: "Length" | "Items" | "Properties", min?: bigint, max?: bigint): JsonObject {
  return { ...(min && { [`min${what}`]: Number(min) }), ...(max && { [`max${what}`]: Number(max) }) };
}

/** The keywords for the rules of one value. Those of whole numbers of 64 bits, which are texts in JSON, have none. */
function keywordsOf(desc: DescField, { type }: FieldRules): JsonObject {
  switch (type.case) {
    case "string": {
      const { const: fixed, len, minLen, maxLen, pattern, in: among, notIn, wellKnown, example } = type.value;
      const format = wellKnown.value === true ? formats[wellKnown.case] : undefined;
      return {
        ...limits("Length", minLen || len, maxLen || len),
        ...(pattern !== "" && { pattern }),
        ...(format !== undefined && { format }),
        ...(fixed !== "" && { const: fixed }),
        ...(among.length > 0 && { enum: among }),
        ...(notIn.length > 0 && { not: { enum: notIn } }),
        ...examples(example.length > 0 ? example : exampleOf(pattern, format, minLen || len)),
      };
    }
    case "int32":
    case "sint32":
    case "sfixed32":
    case "uint32":
    case "fixed32":
    case "double":
    case "float": {
      const { greaterThan, lessThan, in: among, example } = type.value;
      return {
        ...(greaterThan.case === "gte" && { minimum: greaterThan.value }),
        ...(greaterThan.case === "gt" && { exclusiveMinimum: greaterThan.value }),
        ...(lessThan.case === "lte" && { maximum: lessThan.value }),
        ...(lessThan.case === "lt" && { exclusiveMaximum: lessThan.value }),
        ...(among.length > 0 && { enum: among }),
        ...examples(example),
      };
    }
    case "int64":
    case "sint64":
    case "sfixed64":
    case "uint64":
    case "fixed64":
      return type.value.example.length > 0 ? examples(type.value.example.map(String)) : {};
    case "enum": {
      const { in: among, notIn } = type.value;
      if (desc.enum === undefined || (among.length === 0 && notIn.length === 0)) return {};
      const values = desc.enum.values.filter(({ number }) => !notIn.includes(number) && (among.length === 0 || among.includes(number)));
      return { enum: values.map(({ name }) => name) };
    }
    case "duration":
    case "timestamp": {
      const first = type.value.example[0];
      return first === undefined || desc.message === undefined ? {} : examples([toJson(desc.message, first)]);
    }
    default:
      return {};
  }
}

/** Tools make texts up for a pattern where there is no example, at random. What may be empty is, where the contract has none. */
function exampleOf(pattern: string, format: string | undefined, minLength: bigint): string[] {
  if (format === "uuid") return ["0191e0a4-5f7e-7cc1-8a62-3f0a0c5f9d11"];
  return pattern !== "" && minLength === 0n && new RegExp(pattern, "u").test("") ? [""] : [];
}

function examples(values: readonly JsonValue[]): JsonObject {
  return values.length > 0 ? { examples: [...values] } : {};
}
