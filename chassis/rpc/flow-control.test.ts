import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create, toBinary } from "@bufbuild/protobuf";
import { RepeatRequestSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { eventually, standstill } from "../testing/eventually.ts";
import { openRawClient } from "../testing/raw-grpc.ts";
import { openTestEcho } from "../testing/rpc.ts";

const mebibyte = 1024 * 1024;

test("a slow reader holds the handler back: the server does not buffer its stream", async () => {
  let sent = 0;
  const size = 64 * 1024;
  const { server } = await openTestEcho({
    repeat: async function* () {
      for (const text = "x".repeat(size); ; sent++) yield { text };
    },
  });
  const raw = openRawClient(server.port);
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
  const { client } = await openTestEcho({
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

test("a stream that ran for long holds none of its messages", async () => {
  const messages: WeakRef<object>[] = [];
  const release = Promise.withResolvers<void>();
  const { client } = await openTestEcho({
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

/** Returns the garbage collector, which Node hides unless it is asked for. */
async function exposeGc(): Promise<() => void> {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc");
}
