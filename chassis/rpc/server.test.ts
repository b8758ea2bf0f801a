import { connect } from "node:http2";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { gzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type CallOptions, Code, ConnectError, createClient } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { Code as RpcCode } from "@parley/gen/google/rpc/code_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@parley/gen/grpc/health/v1/health_pb.js";
import { EchoRequestSchema, EchoResponseSchema, EchoService, RepeatRequestSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, onTestFinished, test } from "vitest";
import { echo } from "../testing/echo.ts";
import { eventually, standstill } from "../testing/eventually.ts";
import { failureOf } from "../testing/failure.ts";
import { callAndVanish, callRaw, grpcFrame } from "../testing/raw-grpc.ts";
import { openTestServer, openTestTransport } from "../testing/rpc.ts";
import { implement } from "./implement.ts";

const mebibyte = 1024 * 1024;

async function openEcho(handlers: Partial<typeof echo> = {}, overrides: Parameters<typeof openTestServer>[1] = {}) {
  const server = await openTestServer([implement(EchoService, { ...echo, ...handlers })], overrides);
  const client = createClient(EchoService, openTestTransport([server.port], [EchoService]));
  return { server, client, raw: openRaw(server.port) };
}

/** A grpc-js client without anything of ours. */
function openRaw(port: number): grpc.Client {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  onTestFinished(() => client.close());
  return client;
}

function rawEcho(client: grpc.Client, options: grpc.CallOptions = {}, metadata = new grpc.Metadata(), text = "hi") {
  return new Promise<{ text: string; header: grpc.Metadata; trailer: grpc.Metadata }>((resolve, reject) => {
    const header = Promise.withResolvers<grpc.Metadata>();
    let answer = "";
    client
      .makeUnaryRequest(
        "/parley.testing.v1.EchoService/Echo",
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes: Buffer) => fromBinary(EchoResponseSchema, bytes),
        toBinary(EchoRequestSchema, create(EchoRequestSchema, { text })),
        metadata,
        options,
        (error, value) => {
          if (error !== null) return reject(error);
          answer = value?.text ?? "";
        },
      )
      .on("metadata", header.resolve)
      .on("status", async ({ metadata: trailer }) => resolve({ text: answer, header: await header.promise, trailer }));
  });
}

test("all four kinds of streaming carry their messages", async () => {
  const { client } = await openEcho();
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
  const { client } = await openEcho();
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
  const { raw } = await openEcho();
  const metadata = new grpc.Metadata();
  metadata.set("x-test-text", "plain text");
  metadata.set("x-test-bytes-bin", Buffer.from([0, 255, 10]));
  const { header, trailer } = await rawEcho(raw, {}, metadata);
  expect(header.get("x-test-text")).toEqual(["plain text"]);
  expect(header.get("x-test-bytes-bin")).toEqual([Buffer.from([0, 255, 10])]);
  expect(trailer.get("x-trailer-text")).toEqual(["plain text"]);
  expect(trailer.get("x-trailer-bytes-bin")).toEqual([Buffer.from([0, 255, 10])]);
});

test.each(Object.values(Code).filter((code) => typeof code === "number"))("status code %i of a handler arrives unchanged", async (code) => {
  const { client } = await openEcho();
  const ending = { code: Number(code) };
  expect(await failureOf(client.echo({ ending }))).toMatchObject({ code, rawMessage: "as asked" });
  expect(await failureOf(Array.fromAsync(client.repeat({ text: "x", count: 0, ending })))).toMatchObject({ code, rawMessage: "as asked" });
});

test("a failure carries its reason, domain and metadata", async () => {
  const { client } = await openEcho();
  const error = await failureOf(client.echo({ ending: { code: RpcCode.FAILED_PRECONDITION } }));
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
    { reason: "AS_ASKED", domain: "parley.testing.v1", metadata: { why: "test" } },
  ]);
});

test("an unexpected exception shows an id and nothing else, and its stack is logged under the id", async () => {
  const { client, server } = await openEcho();
  for (const call of [client.echo({ ending: { crash: true } }), Array.fromAsync(client.repeat({ count: 1, ending: { crash: true } }))]) {
    const error = await failureOf(call);
    expect(error.code).toBe(Code.Internal);
    expect(error.rawMessage).not.toContain("hunter2");
    const [info] = error.findDetails(ErrorInfoSchema);
    expect(server.logs).toContainEqual(expect.objectContaining({ error_id: info!.metadata["errorId"], level: "error" }));
    expect(JSON.stringify(server.logs)).toContain("hunter2");
  }
});

test.each([
  ["a value that no header may hold", { "x-bad": "ä" }],
  ["a header of HTTP/2's own", { connection: "close" }],
  ["a header of gRPC's own", { "grpc-status": "0" }],
])("a handler that sends %s fails with an id, and nothing crashes", async (_title, headers) => {
  const [name, value] = Object.entries(headers)[0]!;
  const { client, server } = await openEcho({
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
    expect(server.logs).toContainEqual(expect.objectContaining({ error_id: info!.metadata["errorId"], level: "error" }));
  }
});

test("an error whose details cannot be encoded is unexpected, and nothing crashes", async () => {
  const { client } = await openEcho({
    echo: () => {
      throw new ConnectError("later", Code.Unavailable, undefined, [{ desc: RetryInfoSchema, value: { retryDelay: { nanos: 1.5 } } }]);
    },
  });
  expect(await failureOf(client.echo({}))).toMatchObject({ code: Code.Internal });
  expect((await client.echoOnce({ text: "next" })).text).toBe("next");
});

test("half a surrogate pair in an error's message does no harm", async () => {
  const { client } = await openEcho({
    echo: () => {
      throw new ConnectError("half \ud800 pair", Code.NotFound);
    },
  });
  expect(await failureOf(client.echo({}))).toMatchObject({ code: Code.NotFound, rawMessage: "half \ufffd pair" });
});

test("a message over the limit is refused, and the connection lives on", async () => {
  const { client, raw } = await openEcho({}, { maxMessageBytes: mebibyte });
  expect(await failureOf(client.echo({ text: "x".repeat(mebibyte) }))).toMatchObject({ code: Code.ResourceExhausted });
  expect((await client.echo({ text: "next" })).text).toBe("next");
  expect((await rawEcho(raw)).text).toBe("hi");
});

test("requests may be compressed with gzip, but not to more than the limit", async () => {
  const { server } = await openEcho({}, { maxMessageBytes: mebibyte });
  const gzip = new grpc.Client(`127.0.0.1:${server.port}`, grpc.credentials.createInsecure(), {
    "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip,
  });
  onTestFinished(() => gzip.close());
  expect((await rawEcho(gzip, {}, new grpc.Metadata(), "x".repeat(100_000))).text).toHaveLength(100_000);
  const bomb = "x".repeat(2 * mebibyte);
  expect(gzipSync(bomb).length).toBeLessThan(mebibyte);
  await expect(rawEcho(gzip, {}, new grpc.Metadata(), bomb)).rejects.toMatchObject({ code: grpc.status.RESOURCE_EXHAUSTED });
});

test("a call ends at its client's deadline, and the handler's signal fires", async () => {
  const fired = Promise.withResolvers<void>();
  const { raw, server } = await openEcho({
    echo: async (_request, { signal }) => {
      signal.addEventListener("abort", () => fired.resolve());
      return new Promise(() => {}); // a handler that does not listen
    },
  });
  const metadata = new grpc.Metadata();
  metadata.set("grpc-timeout", "50m"); // without a timer of the client's own, which would fire at the same time
  await expect(rawEcho(raw, {}, metadata)).rejects.toMatchObject({ code: grpc.status.DEADLINE_EXCEEDED });
  await fired.promise;
  await eventually(() => expect(server.logs).toContainEqual(expect.objectContaining({ msg: "call", code: "DEADLINE_EXCEEDED" })));
});

test("a call whose deadline is over already does not reach its handler", async () => {
  let calls = 0;
  const { server, client } = await openEcho({
    echoOnce: () => {
      calls++;
      return {};
    },
  });
  const url = `http://127.0.0.1:${server.port}`;
  const path = "/parley.testing.v1.EchoService/EchoOnce";
  expect(await callRaw(url, path, grpcFrame(Buffer.of()), { "grpc-timeout": "0m" })).toBe(RpcCode.DEADLINE_EXCEEDED);
  expect(calls).toBe(0);
  await client.echoOnce({});
  expect(calls).toBe(1);
});

test("a client that names no deadline gets the contract's", async () => {
  const left = Promise.withResolvers<number | undefined>();
  const { raw } = await openEcho({
    echo: (_request, { timeoutMs }) => {
      left.resolve(timeoutMs());
      return {};
    },
  });
  await rawEcho(raw);
  expect(await left.promise).toBeGreaterThan(1_000);
  expect(await left.promise).toBeLessThanOrEqual(2_000);
});

test.each(["echo", "repeat"] as const)("a client that cancels %s cancels the handler", async (method) => {
  const running = Promise.withResolvers<void>();
  const cancelled = Promise.withResolvers<void>();
  const wait = async (signal: AbortSignal): Promise<never> => {
    signal.addEventListener("abort", () => cancelled.resolve());
    running.resolve();
    return new Promise(() => {});
  };
  const { client, server } = await openEcho({
    echo: async (_request, { signal }) => wait(signal),
    // biome-ignore lint/correctness/useYield: it ends before it yields.
    repeat: async function* (_request, { signal }) {
      await wait(signal);
    },
  });
  const controller = new AbortController();
  const options: CallOptions = { signal: controller.signal };
  const call = method === "echo" ? client.echo({}, options) : Array.fromAsync(client.repeat({}, options));
  const failure = failureOf(call);
  await running.promise;
  controller.abort();
  expect(await failure).toMatchObject({ code: Code.Canceled });
  await cancelled.promise;
  await eventually(() => expect(server.logs).toContainEqual(expect.objectContaining({ msg: "call", code: "CANCELLED" })));
});

test("a handler whose client is gone has its finally blocks run", async () => {
  const finished = Promise.withResolvers<void>();
  const { client } = await openEcho({
    repeat: async function* ({ text }) {
      try {
        for (let index = 0; ; index++) {
          yield { text, index };
          await new Promise(setImmediate);
        }
      } finally {
        finished.resolve();
      }
    },
  });
  const controller = new AbortController();
  for await (const { index } of client.repeat({}, { signal: controller.signal })) {
    if (index === 3) break;
  }
  controller.abort();
  await finished.promise;
});

test("a slow reader holds the handler back: the server does not buffer its stream", async () => {
  let sent = 0;
  const size = 64 * 1024;
  const { server } = await openEcho({
    repeat: async function* () {
      for (const text = "x".repeat(size); ; sent++) yield { text };
    },
  });
  const raw = openRaw(server.port);
  const call = raw.makeServerStreamRequest(
    "/parley.testing.v1.EchoService/Repeat",
    (bytes: Uint8Array) => Buffer.from(bytes),
    (bytes: Buffer) => bytes,
    toBinary(RepeatRequestSchema, create(RepeatRequestSchema)),
  );
  call.on("error", () => {});
  // grpc-js's client holds the server back only once something was read.
  await new Promise((resolve) => call.once("data", resolve));
  call.pause();
  await standstill(() => sent);
  expect(sent * size).toBeLessThan(16 * mebibyte);
  const stood = sent;
  call.resume();
  await eventually(() => expect(sent).toBeGreaterThan(stood + 100));
  call.cancel();
});

test("a slow handler holds a fast sender back", async () => {
  const release = Promise.withResolvers<void>();
  let sent = 0;
  const text = "x".repeat(256 * 1024);
  const { client } = await openEcho({
    collect: async (requests) => {
      await release.promise;
      let total = 0;
      for await (const request of requests) total += request.text.length;
      return { text: String(total) };
    },
  });
  async function* requests() {
    for (; sent < 400; sent++) yield { text };
  }
  const call = client.collect(requests());
  await standstill(() => sent);
  expect(sent).toBeLessThan(100);
  release.resolve();
  expect((await call).text).toBe(String(400 * text.length));
});

test("a violated rule of the contract is told by field, before the handler runs", async () => {
  let calls = 0;
  const { client } = await openEcho({
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
  const { client } = await openEcho();
  const error = await failureOf(client.secret({}));
  expect(error.code).toBe(Code.Unauthenticated);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "UNAUTHENTICATED", domain: "parley.errors.v1" }]);
});

test("a method that is not in the contract is UNIMPLEMENTED", async () => {
  const { raw } = await openEcho();
  const call = new Promise((_resolve, reject) => {
    const identity = (bytes: Buffer): Buffer => bytes;
    raw.makeUnaryRequest("/parley.testing.v1.EchoService/Nothing", identity, identity, Buffer.of(), (error) => reject(error));
  });
  await expect(call).rejects.toMatchObject({ code: grpc.status.UNIMPLEMENTED });
});

test("health is told for the server and for each contract, and changes are watched", async () => {
  const { server } = await openEcho();
  const health = createClient(Health, openTestTransport([server.port], [Health]));
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

test("a connection that reached its age is replaced without a failed call", async () => {
  const { client } = await openEcho({}, { connectionAgeMs: 100 });
  const peers = new Set<string>();
  const { client: other, server } = await openEcho({}, { connectionAgeMs: 100 });
  await eventually(async () => {
    await Promise.all([client.echo({ text: "x" }), other.echo({ text: "x" })]);
    for (const entry of server.logs) if (typeof entry["peer"] === "string") peers.add(entry["peer"]);
    expect(peers.size).toBeGreaterThan(2);
  });
});

test.each([
  ["a frame that is cut off", grpcFrame(Buffer.from("short"), { length: 100 }), RpcCode.UNIMPLEMENTED],
  ["no frame at all", Buffer.of(), RpcCode.UNIMPLEMENTED],
  ["two messages for a unary method", Buffer.concat([grpcFrame(Buffer.of()), grpcFrame(Buffer.of())]), RpcCode.UNIMPLEMENTED],
  ["bytes that are no message", grpcFrame(Buffer.from([0xff, 0xff])), RpcCode.INTERNAL],
  ["a frame that is too long", grpcFrame(Buffer.alloc(10), { length: 2 ** 31 }), RpcCode.RESOURCE_EXHAUSTED],
])("%s is refused, and the next call works", async (_title, body, status) => {
  const { server } = await openEcho();
  const url = `http://127.0.0.1:${server.port}`;
  expect(await callRaw(url, "/parley.testing.v1.EchoService/Echo", body)).toBe(status);
  expect(await callRaw(url, "/parley.testing.v1.EchoService/Echo", grpcFrame(Buffer.from([10, 1, 97])))).toBe(RpcCode.OK);
});

test("a client that disappears in the midst of a stream ends its handler", async () => {
  const cancelled = Promise.withResolvers<void>();
  const { server, client } = await openEcho({
    repeat: async function* (_request, { signal }) {
      signal.addEventListener("abort", () => cancelled.resolve());
      yield {};
      await new Promise(() => {});
    },
  });
  await callAndVanish(`http://127.0.0.1:${server.port}`, "/parley.testing.v1.EchoService/Repeat", grpcFrame(Buffer.of()));
  await cancelled.promise;
  await eventually(() => expect(server.logs).toContainEqual(expect.objectContaining({ msg: "call", code: "CANCELLED" })));
  expect((await client.echo({ text: "next" })).text).toBe("next");
});

test("while it drains, calls in progress are finished and streams end with UNAVAILABLE", async () => {
  const [running, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { client, server } = await openEcho({
    echo: async () => {
      running.resolve();
      await release.promise;
      return { text: "finished" };
    },
    repeat: async function* () {
      yield {};
      await new Promise(() => {}); // it does not listen to its signal
    },
  });
  const stream = client.repeat({})[Symbol.asyncIterator]();
  await stream.next();
  const call = client.echo({});
  await running.promise;
  const drained = server.drain(new AbortController().signal);
  expect(await failureOf(stream.next())).toMatchObject({ code: Code.Unavailable, rawMessage: "the server is stopping; try again" });
  release.resolve();
  expect((await call).text).toBe("finished");
  await drained;
});

test("calls that do not end while it drains end with UNAVAILABLE when it gives up", async () => {
  const running = Promise.withResolvers<void>();
  const { client, server } = await openEcho({
    echoOnce: () => {
      running.resolve();
      return new Promise(() => {});
    },
  });
  const failure = failureOf(client.echoOnce({}));
  await running.promise;
  const giveUp = new AbortController();
  const drained = server.drain(giveUp.signal);
  giveUp.abort();
  expect(await failure).toMatchObject({ code: Code.Unavailable, rawMessage: "the server is stopping; try again" });
  await drained;
});

test("a stream that ran for long holds none of its messages", async () => {
  const messages: WeakRef<object>[] = [];
  const release = Promise.withResolvers<void>();
  const { client } = await openEcho({
    repeat: async function* () {
      for (let index = 0; index < 1_000; index++) yield { text: "x", index };
      await release.promise;
    },
  });
  let received = 0;
  const reading = (async () => {
    for await (const message of client.repeat({})) {
      messages.push(new WeakRef(message));
      received++;
    }
  })();
  await eventually(() => expect(received).toBe(1_000));
  const collectGarbage = await exposeGc();
  await eventually(async () => {
    await new Promise(setImmediate); // a WeakRef that was made or read in this turn is held by it
    collectGarbage();
    expect(messages.filter((message) => message.deref() !== undefined).length).toBeLessThan(10);
  });
  release.resolve();
  await reading;
});

test("a reader that stalls does not keep the server from stopping", async () => {
  let sent = 0;
  const { server } = await openEcho({
    repeat: async function* () {
      for (const text = "x".repeat(64 * 1024); ; sent++) yield { text };
    },
  });
  const session = connect(`http://127.0.0.1:${server.port}`);
  session.on("error", () => {});
  const stream = session.request({
    ":method": "POST",
    ":path": "/parley.testing.v1.EchoService/Repeat",
    "content-type": "application/grpc",
  });
  stream.on("error", () => {}).end(grpcFrame(Buffer.of()));
  await standstill(() => sent);
  await server.drain(AbortSignal.abort());
  expect(server.logs).toContainEqual(expect.objectContaining({ msg: "call", code: "UNAVAILABLE" }));
});

/** Returns the garbage collector, which Node hides unless it is asked for. */
async function exposeGc(): Promise<() => void> {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc");
}
