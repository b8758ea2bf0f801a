import { createRegistry, type DescExtension, type DescFile, type DescService, type Registry, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ServiceImplSpec } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "@parley/gen/google/rpc/error_details_pb.js";
import { ServerReflection, type ServerReflectionRequest } from "@parley/gen/grpc/reflection/v1/reflection_pb.js";
import {
  ServerReflection as ServerReflectionAlpha,
  type ServerReflectionRequest as ServerReflectionRequestAlpha,
} from "@parley/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { file_parley_errors_v1_errors } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { implement } from "./implement.ts";

type Question = ServerReflectionRequest["messageRequest"] | ServerReflectionRequestAlpha["messageRequest"];

/** Serves `grpc.reflection.v1` and, with the same answers, `v1alpha`, which older tools ask for. */
export function createReflection(contracts: readonly DescService[]): ServiceImplSpec[] {
  const served = [...contracts, ServerReflection, ServerReflectionAlpha];
  // With what errors carry, so that tools can show it.
  const files = withDependencies([...served.map(({ file }) => file), file_google_rpc_error_details, file_parley_errors_v1_errors]);
  const registry = createRegistry(...files.values());
  const answer = (question: Question) => answerOf(question, served, files, registry);
  return [
    implement(ServerReflection, {
      async *serverReflectionInfo(requests) {
        for await (const request of requests)
          yield { validHost: request.host, originalRequest: request, ...answer(request.messageRequest) };
      },
    }),
    implement(ServerReflectionAlpha, {
      async *serverReflectionInfo(requests) {
        for await (const request of requests)
          yield { validHost: request.host, originalRequest: request, ...answer(request.messageRequest) };
      },
    }),
  ];
}

function answerOf(question: Question, served: readonly DescService[], files: ReadonlyMap<string, DescFile>, registry: Registry) {
  switch (question.case) {
    case "listServices": {
      const service = served.map(({ typeName }) => ({ name: typeName }));
      return { messageResponse: { case: "listServicesResponse", value: { service } } } as const;
    }
    case "fileByFilename":
      return fileAnswer(files.get(question.value), question.value);
    case "fileContainingSymbol": {
      const symbol = question.value;
      // A method, field or enum value is not in the registry under its own name, but what contains it is.
      const desc = registry.get(symbol) ?? registry.get(symbol.slice(0, Math.max(symbol.lastIndexOf("."), 0)));
      return fileAnswer(desc?.file, symbol);
    }
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = question.value;
      const extension = extensionsOf(registry, containingType).find(({ number }) => number === extensionNumber);
      return fileAnswer(extension?.file, `extension ${extensionNumber} of ${containingType}`);
    }
    case "allExtensionNumbersOfType": {
      const baseTypeName = question.value;
      const extensionNumber = extensionsOf(registry, baseTypeName).map(({ number }) => number);
      return { messageResponse: { case: "allExtensionNumbersResponse", value: { baseTypeName, extensionNumber } } } as const;
    }
    default:
      return errorAnswer(Code.InvalidArgument, "the request asks for nothing");
  }
}

function fileAnswer(file: DescFile | undefined, what: string) {
  if (file === undefined) return errorAnswer(Code.NotFound, `${what} is not known here`);
  const fileDescriptorProto = [toBinary(FileDescriptorProtoSchema, file.proto)];
  return { messageResponse: { case: "fileDescriptorResponse", value: { fileDescriptorProto } } } as const;
}

function errorAnswer(errorCode: Code, errorMessage: string) {
  return { messageResponse: { case: "errorResponse", value: { errorCode, errorMessage } } } as const;
}

function extensionsOf(registry: Registry, typeName: string): DescExtension[] {
  return [...registry].filter((desc) => desc.kind === "extension").filter(({ extendee }) => extendee.typeName === typeName);
}

/** All files that the given ones import, by the name under which they are imported. */
function withDependencies(files: readonly DescFile[], found = new Map<string, DescFile>()): Map<string, DescFile> {
  for (const file of files) {
    if (found.has(file.proto.name)) continue;
    found.set(file.proto.name, file);
    withDependencies(file.dependencies, found);
  }
  return found;
}
