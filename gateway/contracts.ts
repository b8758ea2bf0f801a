import { readFileSync } from "node:fs";
import { createFileRegistry, createRegistry, type DescService, type FileRegistry, fromBinary, type Registry } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { serviceNameOf } from "@parley/chassis/rpc/contract.ts";
import { StartError } from "@parley/chassis/start-error.ts";
import { file_google_rpc_error_details } from "@parley/gen/google/rpc/error_details_pb.js";

const files: FileRegistry = createFileRegistry(
  fromBinary(FileDescriptorSetSchema, readFileSync(new URL(import.meta.resolve("@parley/gen/descriptors.binpb")))),
);

/** Every message type of the suite and of errors' details, to write `google.protobuf.Any` as JSON. */
export const types: Registry = createRegistry(files, file_google_rpc_error_details);

/** Returns the contracts that a service serves, by its name. Throws StartError where there are none. */
export function contractsOf(serviceName: string): DescService[] {
  const contracts = [...files].filter((desc) => desc.kind === "service").filter((desc) => serviceNameOf(desc) === serviceName);
  if (contracts.length === 0)
    throw new StartError(`no contract in a package parley.${serviceName}.v1: is the name in services/all.ts right?`);
  return contracts;
}
