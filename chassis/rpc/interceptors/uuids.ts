import { type DescField, type DescMessage, getOption, hasOption, type Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { field as fieldRules } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

/**
 * Puts the UUIDs of a request, the fields whose rule is `string.uuid`, into lower case: a UUID may be
 * written in capitals (RFC 9562, section 4), and is the same everywhere behind.
 */
export function lowerUuids(schema: DescMessage, message: Message): void {
  const fields = uuidFieldsOf(schema);
  if (fields.length === 0) return;
  const reflected = reflect(schema, message);
  for (const field of fields) {
    const value = reflected.get(field);
    if (typeof value === "string") reflected.set(field, value.toLowerCase());
  }
}

const known = new WeakMap<DescMessage, readonly DescField[]>();

/** Those of the message itself; no contract has any deeper. */
function uuidFieldsOf(schema: DescMessage): readonly DescField[] {
  const fields = known.get(schema) ?? schema.fields.filter(isUuid);
  known.set(schema, fields);
  return fields;
}

function isUuid(field: DescField): boolean {
  if (!hasOption(field, fieldRules)) return false;
  const { type } = getOption(field, fieldRules);
  return type.case === "string" && type.value.wellKnown.case === "uuid";
}
