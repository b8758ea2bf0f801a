import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { ServerReflection } from "@parley/gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "@parley/gen/grpc/reflection/v1alpha/reflection_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { echo } from "../testing/echo.ts";
import { openTestServer, openTestTransport } from "../testing/rpc.ts";
import { implement } from "./implement.ts";

type Question =
  NonNullable<Parameters<ReturnType<typeof createClient<typeof ServerReflection>>["serverReflectionInfo"]>[0]> extends AsyncIterable<
    infer T
  >
    ? T
    : never;

async function ask(...questions: Question[]) {
  const { port } = await openTestServer([implement(EchoService, echo)]);
  async function* requests() {
    yield* questions;
  }
  const answers = await Array.fromAsync(createClient(ServerReflection, openTestTransport([port])).serverReflectionInfo(requests()));
  return answers.map(({ messageResponse }) => messageResponse);
}

function fileName(answer: Awaited<ReturnType<typeof ask>>[number] | undefined): string | undefined {
  if (answer?.case !== "fileDescriptorResponse") return answer?.case;
  return fromBinary(FileDescriptorProtoSchema, answer.value.fileDescriptorProto[0]!).name;
}

test("all services are listed", async () => {
  const [answer] = await ask({ messageRequest: { case: "listServices", value: "" } });
  expect(answer?.case === "listServicesResponse" && answer.value.service.map(({ name }) => name)).toEqual([
    "parley.testing.v1.EchoService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
  ]);
});

test.each([
  ["a service", "parley.testing.v1.EchoService", "parley/testing/v1/testing.proto"],
  ["a method", "parley.testing.v1.EchoService.Echo", "parley/testing/v1/testing.proto"],
  ["a message", "parley.testing.v1.EchoRequest", "parley/testing/v1/testing.proto"],
  ["a field", "parley.testing.v1.EchoRequest.text", "parley/testing/v1/testing.proto"],
  ["an option", "parley.options.v1.access", "parley/options/v1/options.proto"],
  ["a detail of errors", "google.rpc.ErrorInfo", "google/rpc/error_details.proto"],
  ["a reason of errors", "parley.errors.v1.ErrorReason", "parley/errors/v1/errors.proto"],
  ["what there is not", "parley.testing.v2.Nothing", "errorResponse"],
])("%s is found by its name", async (_title, value, file) => {
  const [answer] = await ask({ messageRequest: { case: "fileContainingSymbol", value } });
  expect(fileName(answer)).toBe(file);
});

test("files and extensions are found, and one wrong question does not end the stream", async () => {
  const answers = await ask(
    { messageRequest: { case: undefined } },
    { messageRequest: { case: "fileByFilename", value: "google/api/http.proto" } },
    { messageRequest: { case: "fileByFilename", value: "none.proto" } },
    {
      messageRequest: {
        case: "fileContainingExtension",
        value: { containingType: "google.protobuf.MethodOptions", extensionNumber: 50001 },
      },
    },
    { messageRequest: { case: "allExtensionNumbersOfType", value: "google.protobuf.MethodOptions" } },
  );
  expect(answers.slice(0, 4).map(fileName)).toEqual([
    "errorResponse",
    "google/api/http.proto",
    "errorResponse",
    "parley/options/v1/options.proto",
  ]);
  expect(answers[4]?.case === "allExtensionNumbersResponse" && answers[4].value.extensionNumber.toSorted()).toEqual([
    50001, 50002, 50004, 50005, 72295728,
  ]);
});

test("older tools are answered under v1alpha", async () => {
  const { port } = await openTestServer([implement(EchoService, echo)]);
  async function* requests() {
    yield { messageRequest: { case: "listServices", value: "" } } as const;
  }
  const client = createClient(ServerReflectionAlpha, openTestTransport([port]));
  expect(await Array.fromAsync(client.serverReflectionInfo(requests()))).toMatchObject([
    { messageResponse: { case: "listServicesResponse" } },
  ]);
});
