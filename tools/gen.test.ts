import { readFileSync } from "node:fs";
import { join } from "node:path";
import { clone, createRegistry, equals, fromBinary } from "@bufbuild/protobuf";
import { type DescriptorProto, type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { expect, test } from "vitest";

/** Without what a compiler adds: comments, and JSON names that follow from the fields' own. */
function bare(file: FileDescriptorProto): FileDescriptorProto {
  const copy = clone(FileDescriptorProtoSchema, file);
  delete copy.sourceCodeInfo;
  copy.$unknown = [];
  copy.syntax = "";
  const visit = (message: DescriptorProto): void => {
    for (const field of [...message.field, ...message.extension]) field.jsonName = "";
    for (const range of message.extensionRange) delete range.options;
    message.field.sort((a, b) => a.number - b.number); // members of a oneof are printed together
    message.nestedType.forEach(visit);
  };
  copy.messageType.forEach(visit);
  for (const field of copy.extension) field.jsonName = "";
  return copy;
}

test("validate.proto, printed from its descriptor, compiles to the same descriptor", () => {
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(join(import.meta.dirname, "../gen/descriptors.binpb")));
  const printed = set.file.find(({ name }) => name === "buf/validate/validate.proto");
  expect(
    equals(FileDescriptorProtoSchema, bare(printed!), bare(file_buf_validate_validate.proto), {
      unknown: true,
      registry: createRegistry(),
    }),
  ).toBe(true);
});
