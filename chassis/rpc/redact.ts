import { clone, type DescField, type DescMessage, type Message, toJsonString } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";

/** The longest request that is shown, in characters. */
const maxLength = 2_000;

/** Returns a message as JSON without the fields that its contract says are not to be shown, `debug_redact`; undefined where it has no such form. */
export function toShownJson(schema: DescMessage, message: Message): string | undefined {
  try {
    const shown = clone(schema, message);
    redact(reflect(schema, shown));
    return toJsonString(schema, shown).slice(0, maxLength);
  } catch {
    return undefined; // an Any of a type that is not known
  }
}

function redact(message: ReflectMessage): void {
  for (const field of message.desc.fields) {
    if (!message.isSet(field)) continue;
    if (isRedacted(field)) message.clear(field);
    else if (field.fieldKind === "message") redact(message.get(field));
    else if (field.fieldKind === "list" && field.listKind === "message") {
      for (const item of message.get(field)) if (isReflected(item)) redact(item);
    } else if (field.fieldKind === "map" && field.mapKind === "message") {
      for (const [, value] of message.get(field)) if (isReflected(value)) redact(value);
    }
  }
}

function isReflected(value: unknown): value is ReflectMessage {
  return typeof value === "object" && value !== null && "desc" in value;
}

/** Whether the contract says that a field is not to be shown (google/protobuf/descriptor.proto, debug_redact). */
export function isRedacted(field: DescField): boolean {
  return field.proto.options?.debugRedact === true;
}
