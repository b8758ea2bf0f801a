import { create, createFileRegistry, type DescService, setExtension } from "@bufbuild/protobuf";
import {
  durationFromMs,
  FileDescriptorProtoSchema,
  file_google_protobuf_empty,
  MethodOptions_IdempotencyLevel,
  MethodOptionsSchema,
} from "@bufbuild/protobuf/wkt";
import { createServiceImplSpec } from "@connectrpc/connect";
import { Health } from "@parley/gen/grpc/health/v1/health_pb.js";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { Access, access, Criticality, hedge_after as hedgeAfter } from "@parley/gen/parley/options/v1/options_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { openTestServer } from "../testing/rpc.ts";
import { accessOf, criticalityOf, deadlineMsOf, isIdempotent, serviceNameOf } from "./contract.ts";

/** A contract of ours whose methods state nothing. */
function silentContract(): DescService {
  const file = create(FileDescriptorProtoSchema, {
    name: "silent.proto",
    package: "parley.silent.v1",
    syntax: "proto3",
    messageType: [{ name: "Empty" }],
    service: [
      {
        name: "SilentService",
        method: ["One", "Two"].map((name) => ({ name, inputType: ".parley.silent.v1.Empty", outputType: ".parley.silent.v1.Empty" })),
      },
    ],
  });
  return createFileRegistry(file, () => undefined).getService("parley.silent.v1.SilentService")!;
}

test("a server whose contract leaves access open does not start, and says for which methods", async () => {
  const contract = silentContract();
  await expect(openTestServer([createServiceImplSpec(contract, {})])).rejects.toThrow(
    "no access stated for parley.silent.v1.SilentService.One, parley.silent.v1.SilentService.Two: add option (parley.options.v1.access) to the contract",
  );
});

test("contracts of others are public", () => {
  expect(accessOf(Health.method.check)).toEqual([Access.PUBLIC]);
  expect(accessOf(EchoService.method.secret)).toEqual([Access.STAFF, Access.SERVICE]);
});

test("a method's deadline is the contract's, else 10 s, and none for streams and contracts of others", () => {
  expect(deadlineMsOf(GreeterService.method.hello)).toBe(2_000);
  expect(deadlineMsOf(EchoService.method.echoOnce)).toBe(10_000);
  expect(deadlineMsOf(EchoService.method.repeat)).toBeUndefined();
  expect(deadlineMsOf(Health.method.check)).toBeUndefined();
});

test("a service is found by the package of its contract", () => {
  expect(serviceNameOf(GreeterService)).toBe("greeter");
  expect(() => serviceNameOf(Health)).toThrow("grpc.health.v1.Health is not in a package parley.<service>.v1");
});

test("only what the contract says may be repeated is", () => {
  expect([isIdempotent(EchoService.method.echo), isIdempotent(EchoService.method.echoOnce)]).toEqual([true, false]);
});

test("a method's criticality is the contract's, else default; health and reflection are critical", () => {
  const { echoCritical, echoHedged, echo } = EchoService.method;
  expect([echoCritical, echoHedged, echo, Health.method.check].map(criticalityOf)).toEqual([
    Criticality.CRITICAL,
    Criticality.SHEDDABLE,
    Criticality.DEFAULT,
    Criticality.CRITICAL,
  ]);
});

test.each([
  ["with side effects", MethodOptions_IdempotencyLevel.IDEMPOTENT, false],
  ["that is a stream", MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS, true],
])("a method %s cannot be hedged: who serves it does not start", async (_, idempotencyLevel, serverStreaming) => {
  const options = create(MethodOptionsSchema, { idempotencyLevel });
  setExtension(options, access, [Access.PUBLIC]);
  setExtension(options, hedgeAfter, durationFromMs(50));
  const empty = ".google.protobuf.Empty";
  const file = create(FileDescriptorProtoSchema, {
    name: "parley/hedged/v1/hedged.proto",
    package: "parley.hedged.v1",
    syntax: "proto3",
    dependency: ["google/protobuf/empty.proto"],
    service: [{ name: "HedgedService", method: [{ name: "Go", inputType: empty, outputType: empty, serverStreaming, options }] }],
  });
  const contract = createFileRegistry(file, () => file_google_protobuf_empty).getService("parley.hedged.v1.HedgedService")!;
  await expect(openTestServer([createServiceImplSpec(contract, {})])).rejects.toThrow(
    "parley.hedged.v1.HedgedService.Go cannot have (parley.options.v1.hedge_after)",
  );
});
