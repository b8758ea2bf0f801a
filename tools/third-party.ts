// Assembles third_party/, the protos of others that our contracts import, from npm packages:
// nothing comes from a schema registry, and nothing of it is committed.
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { dirname, join } from "node:path";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { printProto } from "./print-proto.ts";

const target = join(import.meta.dirname, "..", "third_party");

/** Package, folder in it, and the files to take: path in that folder → path of import. */
const sources = [
  {
    name: "google-gax",
    folder: "build/protos",
    files: {
      "google/api/annotations.proto": "google/api/annotations.proto",
      "google/api/http.proto": "google/api/http.proto",
      "google/rpc/code.proto": "google/rpc/code.proto",
      "google/rpc/error_details.proto": "google/rpc/error_details.proto",
      "google/rpc/status.proto": "google/rpc/status.proto",
    },
  },
  { name: "grpc-health-check", folder: "proto", files: { "health/v1/health.proto": "grpc/health/v1/health.proto" } },
  {
    name: "@grpc/reflection",
    folder: "build/proto",
    files: {
      "grpc/reflection/v1/reflection.proto": "grpc/reflection/v1/reflection.proto",
      "grpc/reflection/v1alpha/reflection.proto": "grpc/reflection/v1alpha/reflection.proto",
    },
  },
];

rmSync(target, { recursive: true, force: true });
for (const { name, folder, files } of sources) {
  const manifest = findPackageJSON(name, import.meta.url);
  if (manifest === undefined) throw new Error(`${name} is not installed: run npm ci`);
  for (const [from, to] of Object.entries(files)) {
    mkdirSync(dirname(join(target, to)), { recursive: true });
    copyFileSync(join(dirname(manifest), folder, from), join(target, to));
  }
}
// The one proto that no npm package carries as a source: printed from its descriptor.
mkdirSync(join(target, "buf/validate"), { recursive: true });
writeFileSync(join(target, "buf/validate/validate.proto"), printProto(file_buf_validate_validate));
