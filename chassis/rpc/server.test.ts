import { gzipSync } from "node:zlib";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { Code as RpcCode } from "@parley/gen/google/rpc/code_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@parley/gen/grpc/health/v1/health_pb.js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { eventually } from "../testing/eventually.ts";
import { failureOf } from "../testing/failure.ts";
import { callRaw, grpcFrame, openRawClient, rawEcho } from "../testing/raw-grpc.ts";
import { openTestEcho, openTestTransport } from "../testing/rpc.ts";
import { fail } from "./errors.ts";

const mebibyte = 1024 * 1024;

test("all four kinds of streaming carry their messages", async () => {
  const { client } = await openTestEcho();
  const texts = ["a", "b", "c"];
  async function* requests() {
    for (const text of texts) yield { text };
  }
  expect((await client.echo({ text: "one", numbers: [1, 2] })).numbers).toEqual([1, 2]);
  expect((await Array.fromAsync(client.repeat({ text: "x", count: 3 }))).map(({ index }) => index)).toEqual([0, 1, 2]);
  expect((await client.collect(requests())).text).toBe("abc");
  expect((await Array.fromAsync(client.chat(requests()))).map(({ text }) => text)).toEqual(texts);
});

test("a chat is answered message by message, before the client has sent all", async () => {
  const { client } = await openTestEcho();
  const next: ((text: string | undefined) => void)[] = [];
  async function* requests() {
    for (;;) {
      const text = await new Promise<string | undefined>((resolve) => next.push(resolve));
      if (text === undefined) return;
      yield { text };
    }
  }
  const answers = client.chat(requests())[Symbol.asyncIterator]();
  for (const text of ["ping", "pong"]) {
    const answer = answers.next();
    await eventually(() => expect(next.length).toBeGreaterThan(0));
    next.shift()?.(text);
    expect((await answer).value?.text).toBe(text);
  }
  const last = answers.next();
  await eventually(() => expect(next.length).toBeGreaterThan(0));
  next.shift()?.(undefined);
  expect((await last).done).toBe(true);
});

test("metadata travels both ways as text and as bytes, in headers and in trailers", async () => {
  const { server } = await openTestEcho();
  const metadata = new grpc.Metadata();
  metadata.set("x-test-text", "plain text");
  metadata.set("x-test-bytes-bin", Buffer.from([0, 255, 10]));
  const { header, trailer } = await rawEcho(openRawClient(server.port), {}, metadata);
  expect(header.get("x-test-text")).toEqual(["plain text"]);
  expect(header.get("x-test-bytes-bin")).toEqual([Buffer.from([0, 255, 10])]);
  expect(trailer.get("x-trailer-text")).toEqual(["plain text"]);
  expect(trailer.get("x-trailer-bytes-bin")).toEqual([Buffer.from([0, 255, 10])]);
});

test.each(Object.values(Code).filter((code) => typeof code === "number"))("status code %i of a handler arrives unchanged", async (code) => {
  const { client } = await openTestEcho();
  const ending = { code: Number(code) };
  expect(await failureOf(client.echo({ ending }))).toMatchObject({ code, rawMessage: "as asked" });
  expect(await failureOf(Array.fromAsync(client.repeat({ text: "x", count: 0, ending })))).toMatchObject({ code, rawMessage: "as asked" });
});

test("a failure carries its reason, domain and metadata", async () => {
  const { client } = await openTestEcho();
  const error = await failureOf(client.echo({ ending: { code: RpcCode.FAILED_PRECONDITION } }));
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
    { reason: "AS_ASKED", domain: "parley.testing.v1", metadata: { why: "test" } },
  ]);
});

test("an unexpected exception shows an id and nothing else, and its stack is logged under the id", async () => {
  const { client, server } = await openTestEcho();
  for (const call of [client.echo({ ending: { crash: true } }), Array.fromAsync(client.repeat({ count: 1, ending: { crash: true } }))]) {
    const error = await failureOf(call);
    expect(error.code).toBe(Code.Internal);
    expect(error.rawMessage).not.toContain("hunter2");
    const [info] = error.findDetails(ErrorInfoSchema);
    expect(server.logs).toContainEqual(expect.objectContaining({ error_id: info!.metadata["errorId"], severity_text: "ERROR" }));
    expect(JSON.stringify(server.logs)).toContain("hunter2");
  }
});

test.each([
  ["a value that no header may hold", { "x-bad": "ä" }],
  ["a header of HTTP/2's own", { connection: "close" }],
  ["a header of gRPC's own", { "grpc-status": "0" }],
])("a handler that sends %s fails with an id, and nothing crashes", async (_title, headers) => {
  const [name, value] = Object.entries(headers)[0]!;
  const { client, server } = await openTestEcho({
    echo: (_request, { responseHeader }) => {
      responseHeader.set(name, value);
      return {};
    },
    repeat: async function* (_request, { responseTrailer }) {
      yield {};
      responseTrailer.set(name, value);
    },
    echoOnce: () => {
      throw new ConnectError("bad metadata", Code.NotFound, headers);
    },
  });
  for (const call of [() => client.echo({}), () => Array.fromAsync(client.repeat({})), () => client.echoOnce({})]) {
    const error = await failureOf(call());
    expect(error.code).toBe(Code.Internal);
    const [info] = error.findDetails(ErrorInfoSchema);
    expect(server.logs).toContainEqual(expect.objectContaining({ error_id: info!.metadata["errorId"], severity_text: "ERROR" }));
  }
});

test("an error whose details cannot be encoded is unexpected, and nothing crashes", async () => {
  const { client } = await openTestEcho({
    echo: () => {
      throw new ConnectError("later", Code.Unavailable, undefined, [{ desc: RetryInfoSchema, value: { retryDelay: { nanos: 1.5 } } }]);
    },
  });
  expect(await failureOf(client.echo({}))).toMatchObject({ code: Code.Internal });
  expect((await client.echoOnce({ text: "next" })).text).toBe("next");
});

test.each([
  ["message", new ConnectError("x".repeat(100_000), Code.NotFound)],
  ["detail", fail(ErrorReason.UNAVAILABLE, "no", { why: "x".repeat(100_000) })],
])("an error whose %s is too long to send is unexpected, and ends no call of others", async (_title, error) => {
  const failed = Promise.withResolvers<void>();
  const { client } = await openTestEcho({
    echoOnce: () => Promise.reject(error),
    async *repeat() {
      yield { index: 0 };
      await failed.promise;
      yield { index: 1 };
    },
  });
  const others = client.repeat({})[Symbol.asyncIterator]();
  expect((await others.next()).value?.index).toBe(0);
  expect(await failureOf(client.echoOnce({}))).toMatchObject({ code: Code.Internal, rawMessage: expect.stringMatching(/^internal error/) });
  failed.resolve();
  expect((await others.next()).value?.index).toBe(1);
});

test("fields that the contract does not have are skipped, not kept", async () => {
  const requests: { text: string; $unknown?: unknown }[] = [];
  const { url } = await openTestEcho({
    echo: (request) => {
      requests.push(request);
      return {};
    },
  });
  const bytes = Buffer.from([10, 1, 97, ...Array(1_000).fill([0xf8, 0x7f, 1]).flat()]); // text: "a", then field 2047 a thousand times
  expect(await callRaw(url, "/parley.testing.v1.EchoService/Echo", grpcFrame(bytes))).toBe(RpcCode.OK);
  expect(requests.map(({ text, $unknown }) => [text, $unknown])).toEqual([["a", undefined]]);
});

test("half a surrogate pair in an error's message does no harm", async () => {
  const { client } = await openTestEcho({
    echo: () => {
      throw new ConnectError("half \ud800 pair", Code.NotFound);
    },
  });
  expect(await failureOf(client.echo({}))).toMatchObject({ code: Code.NotFound, rawMessage: "half \ufffd pair" });
});

test("a message over the limit is refused, and the connection lives on", async () => {
  const { client, server } = await openTestEcho({}, { maxMessageBytes: mebibyte });
  expect(await failureOf(client.echo({ text: "x".repeat(mebibyte) }))).toMatchObject({ code: Code.ResourceExhausted });
  expect((await client.echo({ text: "next" })).text).toBe("next");
  expect((await rawEcho(openRawClient(server.port))).text).toBe("hi");
});

test("requests may be compressed with gzip, but not to more than the limit", async () => {
  const { server } = await openTestEcho({}, { maxMessageBytes: mebibyte });
  const gzip = openRawClient(server.port, { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip });
  expect((await rawEcho(gzip, {}, new grpc.Metadata(), "x".repeat(100_000))).text).toHaveLength(100_000);
  const bomb = "x".repeat(2 * mebibyte);
  expect(gzipSync(bomb).length).toBeLessThan(mebibyte);
  await expect(rawEcho(gzip, {}, new grpc.Metadata(), bomb)).rejects.toMatchObject({ code: grpc.status.RESOURCE_EXHAUSTED });
});

test("a violated rule of the contract is told by field, before the handler runs", async () => {
  let calls = 0;
  const { client } = await openTestEcho({
    echo: () => {
      calls++;
      return {};
    },
  });
  const error = await failureOf(client.echo({ text: "x".repeat(3 * mebibyte + 1) }));
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations).toMatchObject([{ field: "text", reason: "string.max_bytes" }]);
  expect(calls).toBe(0);
  async function* requests() {
    yield { text: "x".repeat(mebibyte + 1) };
  }
  expect(await failureOf(client.collect(requests()))).toMatchObject({ code: Code.InvalidArgument });
});

test("a method that is not public is refused without a token", async () => {
  const { client } = await openTestEcho();
  const error = await failureOf(client.secret({}));
  expect(error.code).toBe(Code.Unauthenticated);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "UNAUTHENTICATED", domain: "parley.errors.v1" }]);
});

test("a method that is not in the contract is UNIMPLEMENTED", async () => {
  const { server } = await openTestEcho();
  const call = new Promise((_resolve, reject) => {
    const identity = (bytes: Buffer): Buffer => bytes;
    openRawClient(server.port).makeUnaryRequest("/parley.testing.v1.EchoService/Nothing", identity, identity, Buffer.of(), (error) =>
      reject(error),
    );
  });
  await expect(call).rejects.toMatchObject({ code: grpc.status.UNIMPLEMENTED });
});

test("health is told for the server and for each contract, and changes are watched", async () => {
  const { server } = await openTestEcho();
  const health = createClient(Health, openTestTransport([server.port]));
  expect(await health.check({})).toMatchObject({ status: ServingStatus.SERVING });
  expect(await health.check({ service: EchoService.typeName })).toMatchObject({ status: ServingStatus.SERVING });
  expect(await failureOf(health.check({ service: "nobody" }))).toMatchObject({ code: Code.NotFound });
  const controller = new AbortController();
  const watch = health.watch({ service: EchoService.typeName }, { signal: controller.signal })[Symbol.asyncIterator]();
  expect((await watch.next()).value?.status).toBe(ServingStatus.SERVING);
  server.health.setServing(false);
  expect((await watch.next()).value?.status).toBe(ServingStatus.NOT_SERVING);
  expect(await health.check({})).toMatchObject({ status: ServingStatus.NOT_SERVING });
  controller.abort();
});

test.each([
  ["a frame that is cut off", grpcFrame(Buffer.from("short"), { length: 100 }), RpcCode.UNIMPLEMENTED],
  ["no frame at all", Buffer.of(), RpcCode.UNIMPLEMENTED],
  ["two messages for a unary method", Buffer.concat([grpcFrame(Buffer.of()), grpcFrame(Buffer.of())]), RpcCode.UNIMPLEMENTED],
  ["bytes that are no message", grpcFrame(Buffer.from([0xff, 0xff])), RpcCode.INTERNAL],
  ["a frame that is too long", grpcFrame(Buffer.alloc(10), { length: 2 ** 31 }), RpcCode.RESOURCE_EXHAUSTED],
])("%s is refused, and the next call works", async (_title, body, status) => {
  const { server } = await openTestEcho();
  const url = `http://127.0.0.1:${server.port}`;
  expect(await callRaw(url, "/parley.testing.v1.EchoService/Echo", body)).toBe(status);
  expect(await callRaw(url, "/parley.testing.v1.EchoService/Echo", grpcFrame(Buffer.from([10, 1, 97])))).toBe(RpcCode.OK);
});
