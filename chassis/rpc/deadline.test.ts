import { create } from "@bufbuild/protobuf";
import { type CallOptions, Code, createContextValues } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { Code as RpcCode } from "@parley/gen/google/rpc/code_pb.js";
import { EchoRequestSchema, EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { eventually } from "../testing/eventually.ts";
import { failureOf } from "../testing/failure.ts";
import { callAndVanish, callRaw, grpcFrame, openRawClient, rawEcho } from "../testing/raw-grpc.ts";
import { openTestEcho } from "../testing/rpc.ts";
import { deadlineKey } from "./context-keys.ts";
import { deadline } from "./interceptors/deadline.ts";

test("a call ends at its client's deadline, and the handler's signal fires", async () => {
  const fired = Promise.withResolvers<void>();
  const { server } = await openTestEcho({
    echo: async (_request, { signal }) => {
      signal.addEventListener("abort", () => fired.resolve());
      return new Promise(() => {}); // a handler that does not listen
    },
  });
  const metadata = new grpc.Metadata();
  metadata.set("grpc-timeout", "50m"); // without a timer of the client's own, which would fire at the same time
  await expect(rawEcho(openRawClient(server.port), {}, metadata)).rejects.toMatchObject({ code: grpc.status.DEADLINE_EXCEEDED });
  await fired.promise;
  await eventually(() =>
    expect(server.logs).toContainEqual(expect.objectContaining({ body: "call", "rpc.response.status_code": "DEADLINE_EXCEEDED" })),
  );
});

test("a call whose deadline is over already does not reach its handler", async () => {
  let calls = 0;
  const { server, client } = await openTestEcho({
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
  const { server } = await openTestEcho({
    echo: (_request, { timeoutMs }) => {
      left.resolve(timeoutMs());
      return {};
    },
  });
  await rawEcho(openRawClient(server.port));
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
  const { client, server } = await openTestEcho({
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
  await eventually(() =>
    expect(server.logs).toContainEqual(expect.objectContaining({ body: "call", "rpc.response.status_code": "CANCELLED" })),
  );
});

test("a handler whose client is gone has its finally blocks run", async () => {
  const finished = Promise.withResolvers<void>();
  const { client } = await openTestEcho({
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

test("a client that disappears in the midst of a stream ends its handler", async () => {
  const cancelled = Promise.withResolvers<void>();
  const { server, client } = await openTestEcho({
    repeat: async function* (_request, { signal }) {
      signal.addEventListener("abort", () => cancelled.resolve());
      yield {};
      await new Promise(() => {});
    },
  });
  await callAndVanish(`http://127.0.0.1:${server.port}`, "/parley.testing.v1.EchoService/Repeat", grpcFrame(Buffer.of()));
  await cancelled.promise;
  await eventually(() =>
    expect(server.logs).toContainEqual(expect.objectContaining({ body: "call", "rpc.response.status_code": "CANCELLED" })),
  );
  expect((await client.echo({ text: "next" })).text).toBe("next");
});

test("a call whose deadline is over when its turn comes is not started, though its signal has not fired yet", async () => {
  const { method } = EchoService;
  let isStarted = false;
  const chain = deadline(() => {
    isStarted = true;
    return Promise.reject(new Error("it was started"));
  });
  const request = {
    stream: false as const,
    service: EchoService,
    method: method.echo,
    requestMethod: "POST",
    url: "",
    signal: new AbortController().signal,
    header: new Headers(),
    contextValues: createContextValues().set(deadlineKey, performance.now() - 1),
    message: create(EchoRequestSchema),
  };
  expect((await failureOf(chain(request))).code).toBe(Code.DeadlineExceeded);
  expect(isStarted).toBe(false);
});
