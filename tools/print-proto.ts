import {
  createRegistry,
  type DescExtension,
  type DescFile,
  type DescMessage,
  getExtension,
  hasExtension,
  isFieldSet,
  isMessage,
  type Message,
} from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { toText } from "@bufbuild/protobuf/txtpb";
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  EnumOptionsSchema,
  EnumValueOptionsSchema,
  type FieldDescriptorProto,
  FieldDescriptorProtoSchema,
  FieldOptionsSchema,
  FileOptionsSchema,
  file_google_protobuf_descriptor,
  FieldDescriptorProto_Label as Label,
  MessageOptionsSchema,
  OneofOptionsSchema,
  FieldDescriptorProto_Type as Type,
} from "@bufbuild/protobuf/wkt";

/**
 * Returns the source of a proto2 file, without comments, out of its descriptor.
 *
 * Knows what `buf/validate/validate.proto` uses, and throws on everything else: services, groups,
 * maps and proto3. tools/gen.test.ts compiles the result and compares the descriptors.
 */
export function printProto(file: DescFile): string {
  const { proto } = file;
  if ((proto.syntax !== "" && proto.syntax !== "proto2") || proto.service.length + proto.publicDependency.length > 0) {
    throw new Error(`cannot print ${proto.name}: only proto2 without services and public imports`);
  }
  const registry = createRegistry(file, file_google_protobuf_descriptor);
  return `${[
    'syntax = "proto2";',
    `package ${proto.package};`,
    ...proto.dependency.map((name) => `import "${name}";`),
    ...optionsOf(FileOptionsSchema, proto.options).map((option) => `option ${option};`),
    ...proto.enumType.flatMap(printEnum),
    ...proto.messageType.flatMap(printMessage),
    ...proto.extension.flatMap(printExtension),
  ].join("\n")}\n`;

  function printMessage(message: DescriptorProto): string[] {
    const isMember = (field: FieldDescriptorProto): boolean => isFieldSet(field, FieldDescriptorProtoSchema.field.oneofIndex);
    return [
      `message ${message.name} {`,
      ...optionsOf(MessageOptionsSchema, message.options).map((option) => `option ${option};`),
      ...message.enumType.flatMap(printEnum),
      ...message.nestedType.flatMap(printMessage),
      ...message.field.filter((field) => !isMember(field)).map((field) => printField(field, labels[field.label])),
      ...message.oneofDecl.flatMap((oneof, index) => [
        `oneof ${oneof.name} {`,
        ...optionsOf(OneofOptionsSchema, oneof.options).map((option) => `option ${option};`),
        ...message.field.filter((field) => isMember(field) && field.oneofIndex === index).map((field) => printField(field, "")),
        "}",
      ]),
      ...message.extensionRange.map(({ start, end }) => `extensions ${start} to ${end > maxFieldNumber ? "max" : end - 1};`),
      ...message.reservedRange.map(({ start, end }) => `reserved ${start} to ${end - 1};`),
      ...message.reservedName.map((name) => `reserved "${name}";`),
      ...message.extension.flatMap(printExtension),
      "}",
    ];
  }

  function printField(field: FieldDescriptorProto, label: string): string {
    if (field.type === Type.GROUP) throw new Error(`cannot print the group ${field.name}`);
    const options = optionsOf(FieldOptionsSchema, field.options);
    if (isFieldSet(field, FieldDescriptorProtoSchema.field.defaultValue)) options.unshift(`default = ${field.defaultValue}`);
    const type = field.typeName === "" ? Type[field.type].toLowerCase() : field.typeName;
    return `${label} ${type} ${field.name} = ${field.number}${bracketed(options)};`;
  }

  function printEnum(desc: EnumDescriptorProto): string[] {
    return [
      `enum ${desc.name} {`,
      ...optionsOf(EnumOptionsSchema, desc.options).map((option) => `option ${option};`),
      ...desc.value.map((value) => `${value.name} = ${value.number}${bracketed(optionsOf(EnumValueOptionsSchema, value.options))};`),
      ...desc.reservedRange.map(({ start, end }) => `reserved ${start} to ${end};`),
      ...desc.reservedName.map((name) => `reserved "${name}";`),
      "}",
    ];
  }

  function printExtension(field: FieldDescriptorProto): string[] {
    return [`extend ${field.extendee} {`, printField(field, labels[field.label]), "}"];
  }

  /** Each option that is set, as `name = value`; custom ones as `(full.name) = { … }`. */
  function optionsOf(schema: DescMessage, options: Message | undefined): string[] {
    if (options === undefined) return [];
    const message = reflect(schema, options);
    const plain = message.fields
      .filter((field) => message.isSet(field))
      .map((field) => {
        const value = message.get(field);
        if (field.fieldKind === "scalar") return `${field.name} = ${JSON.stringify(value)}`;
        if (field.fieldKind === "enum") return `${field.name} = ${field.enum.value[Number(value)]?.name}`;
        throw new Error(`cannot print the option ${field.name}`);
      });
    const custom = [...registry].filter(
      (desc): desc is DescExtension & { fieldKind: "message" } =>
        desc.kind === "extension" && desc.fieldKind === "message" && hasExtension(options, desc),
    );
    return plain.concat(
      custom.map((extension) => {
        const value = getExtension(options, extension);
        if (!isMessage(value)) throw new Error(`cannot print the option ${extension.typeName}`);
        return `(${extension.typeName}) = {${toText(extension.message, value, { registry })}}`;
      }),
    );
  }
}

/** The highest number that a field can have (Protocol Buffers Language Guide, Assigning Field Numbers). */
const maxFieldNumber = 536_870_911;

const labels = { [Label.OPTIONAL]: "optional", [Label.REPEATED]: "repeated", [Label.REQUIRED]: "required" };

function bracketed(options: string[]): string {
  return options.length > 0 ? ` [${options.join(", ")}]` : "";
}
