import { once } from "node:events";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { type Client, Code, ConnectError, createClient, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { Registry } from "prom-client";
import { expect, onTestFinished, test } from "vitest";
import type { echo } from "../testing/echo.ts";
import { eventually } from "../testing/eventually.ts";
import { failureOf } from "../testing/failure.ts";
import { openTestEcho, openTestTransport } from "../testing/rpc.ts";
import { detach } from "./current-call.ts";
import { clientInterceptors } from "./interceptors/all.ts";
import { currentCall } from "./interceptors/current-call.ts";

type EchoClient = Client<typeof EchoService>;

async function openServerOf(handlers: Partial<typeof echo> = {}) {
  return (await openTestEcho(handlers)).server;
}

function clientOf(...servers: { port: number }[]): EchoClient {
  return createClient(
    EchoService,
    openTestTransport(
      servers.map(({ port }) => port),
      [EchoService],
    ),
  );
}

/** An echo service, a client of it, and the client's metrics. */
async function openMeasured(handlers: Partial<typeof echo>) {
  const { port } = await openServerOf(handlers);
  const registry = new Registry();
  return { registry, client: createClient(EchoService, openTestTransport([port], [], clientInterceptors({ registry }))) };
}

/** A service A whose echo calls the echo of a service B, and a client of A. */
async function openTwo(behindA: (client: EchoClient, context: HandlerContext) => Promise<unknown>, atB: (typeof echo)["echo"]) {
  const b = clientOf(await openServerOf({ echo: atB }));
  const server = await openServerOf({
    async echo(_request, context) {
      await behindA(b, context);
      return {};
    },
  });
  return { client: clientOf(server), server };
}

test("calls are spread evenly over all addresses of a target", async () => {
  const calls = [0, 0, 0];
  const servers = await Promise.all(
    calls.map((_, index) =>
      openServerOf({
        echo: () => {
          calls[index]!++;
          return {};
        },
      }),
    ),
  );
  const client = clientOf(...servers);
  await eventually(async () => {
    await client.echo({});
    expect(Math.min(...calls)).toBeGreaterThan(0); // all are connected
  });
  calls.fill(0);
  for (let call = 0; call < 30; call++) await client.echo({});
  expect(calls).toEqual([10, 10, 10]);
});

test("a method that may be repeated is tried three times while it is UNAVAILABLE; any other once", async () => {
  let attempts = 0;
  const failTwice = () => {
    if (++attempts < 3) throw new ConnectError("not now", Code.Unavailable);
    return { text: "at last" };
  };
  const client = clientOf(await openServerOf({ echo: failTwice, echoOnce: failTwice }));
  expect((await client.echo({})).text).toBe("at last");
  expect(attempts).toBe(3);
  attempts = 0;
  expect(await failureOf(client.echoOnce({}))).toMatchObject({ code: Code.Unavailable });
  expect(attempts).toBe(1);
});

test.each([Code.Internal, Code.DeadlineExceeded, Code.ResourceExhausted])(
  "a call that failed with code %i is not repeated",
  async (code) => {
    let attempts = 0;
    const client = clientOf(
      await openServerOf({
        echo: () => {
          attempts++;
          throw new ConnectError("no", code);
        },
      }),
    );
    expect(await failureOf(client.echo({}))).toMatchObject({ code });
    expect(attempts).toBe(1);
  },
);

test("a target that keeps failing is not burdened with retries", async () => {
  let attempts = 0;
  const client = clientOf(
    await openServerOf({
      echo: () => {
        attempts++;
        throw new ConnectError("down", Code.Unavailable);
      },
    }),
  );
  for (let round = 0; round < 5; round++) await Promise.all(Array.from({ length: 20 }, () => failureOf(client.echo({}))));
  expect(attempts).toBeLessThanOrEqual(110);
});

test("a replica that dies is left out, and calls that may be repeated do not notice", async () => {
  const servers = await Promise.all([openServerOf(), openServerOf()]);
  const client = clientOf(...servers);
  for (let call = 0; call < 10; call++) await client.echo({});
  const dying = servers[0]!.drain(AbortSignal.abort());
  for (let call = 0; call < 50; call++) expect((await client.echo({ text: "x" })).text).toBe("x");
  await dying;
});

test("a target that cannot be reached is UNAVAILABLE, and its address is not told", async () => {
  const server = await openServerOf();
  await server.drain(AbortSignal.abort());
  const error = await failureOf(clientOf(server).echoOnce({}));
  expect(error).toMatchObject({ code: Code.Unavailable, rawMessage: "parley.testing.v1.EchoService cannot be reached; try again" });
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "UNAVAILABLE" }]);
});

test.each([
  ["the contract's", undefined, 2_000],
  ["its caller's", 500, 500],
])("a call is sent with %s deadline", async (_title, timeoutMs, expectedMs) => {
  const server = createServer();
  const timeout = Promise.withResolvers<unknown>();
  server.once("stream", (stream, headers) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "0" }, { endStream: true });
    timeout.resolve(headers["grpc-timeout"]);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  await failureOf(clientOf({ port }).echo({}, timeoutMs === undefined ? {} : { timeoutMs }));
  const [, ms] = /^(\d+)m$/.exec(String(await timeout.promise)) ?? [];
  expect(Number(ms)).toBeGreaterThan(expectedMs - 400);
  expect(Number(ms)).toBeLessThanOrEqual(expectedMs);
});

test("a deadline that is over is told in our words, and counted as what it is", async () => {
  const { registry, client } = await openMeasured({ echo: () => new Promise(() => {}) });
  const error = await failureOf(client.echo({}, { timeoutMs: 50 }));
  expect(error).toMatchObject({ code: Code.DeadlineExceeded, isWireError: true });
  expect(error.rawMessage).toBe("parley.testing.v1.EchoService.Echo did not answer within its deadline");
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "DEADLINE_EXCEEDED" }]);
  expect(await registry.metrics()).toMatch(/grpc_client_handled_total\{[^}]*grpc_code="DEADLINE_EXCEEDED"\} 1/);
});

test("a request that cannot be encoded is the caller's fault, and says so in the log only", async () => {
  const { client, server } = await openTwo(
    (b) => b.echo({ numbers: [1.5] }),
    () => ({}),
  );
  expect(await failureOf(client.echo({}))).toMatchObject({ code: Code.Internal, rawMessage: expect.stringMatching(/^internal error/) });
  expect(JSON.stringify(server.logs)).toContain("1.5");
});

test("an error of the caller's own stream of requests ends the call with it", async () => {
  const client = clientOf(await openServerOf());
  async function* requests() {
    yield { text: "a" };
    throw new ConnectError("no more", Code.DataLoss);
  }
  expect(await failureOf(client.collect(requests()))).toMatchObject({ code: Code.DataLoss, rawMessage: "no more" });
});

test("a stream that nobody reads to its end is over when its signal fires, and counted so", async () => {
  const ended = Promise.withResolvers<void>();
  const { registry, client } = await openMeasured({
    repeat: async function* (_request, { signal }) {
      signal.addEventListener("abort", () => ended.resolve());
      for (let index = 0; ; index++) yield { index };
    },
  });
  const controller = new AbortController();
  for await (const { index } of client.repeat({}, { signal: controller.signal })) if (index === 3) break;
  expect(await registry.metrics()).toMatch(/grpc_client_in_progress\{[^}]*\} 1/);
  controller.abort();
  await ended.promise;
  expect(await registry.metrics()).toMatch(/grpc_client_in_progress\{[^}]*\} 0/);
});

test("what is left of a call's deadline is all that its own calls have", async () => {
  const left = Promise.withResolvers<number>();
  const { client } = await openTwo(
    (b) => b.echo({}, { timeoutMs: 60_000 }),
    (_request, { timeoutMs }) => {
      left.resolve(timeoutMs() ?? Number.POSITIVE_INFINITY);
      return {};
    },
  );
  await client.echo({}, { timeoutMs: 10_000 });
  expect(await left.promise).toBeGreaterThan(5_000);
  expect(await left.promise).toBeLessThanOrEqual(10_000);
});

test("a call that is cancelled takes its own calls with it", async () => {
  const [running, cancelled] = [Promise.withResolvers<void>(), Promise.withResolvers<unknown>()];
  const { client } = await openTwo(
    (b) => b.echo({}),
    (_request, { signal }) => {
      signal.addEventListener("abort", () => cancelled.resolve(signal.reason));
      running.resolve();
      return new Promise(() => {});
    },
  );
  const controller = new AbortController();
  const failure = failureOf(client.echo({}, { signal: controller.signal }));
  await running.promise;
  controller.abort();
  expect(await failure).toMatchObject({ code: Code.Canceled });
  expect(await cancelled.promise).toMatchObject({ code: Code.Canceled }); // not because its own deadline is over
});

test("a stream's own calls belong to its call too", async () => {
  const headers = Promise.withResolvers<Headers>();
  const b = clientOf(
    await openServerOf({
      echo: (_request, { requestHeader }) => {
        headers.resolve(requestHeader);
        return {};
      },
    }),
  );
  const client = clientOf(
    await openServerOf({
      async *repeat() {
        yield {};
        await b.echo({}); // in the second pull of the stream
      },
    }),
  );
  await Array.fromAsync(client.repeat({}, { headers: { "x-request-id": "stream-1" } }));
  expect((await headers.promise).get("x-request-id")).toBe("stream-1");
});

test("detached work outlives its call, with the request's ids and without the user's token", async () => {
  const seen = Promise.withResolvers<HandlerContext>();
  const answered = Promise.withResolvers<void>();
  const { client } = await openTwo(
    async (b) => {
      detach(() => answered.promise.then(() => b.echo({})));
    },
    (_request, context) => {
      seen.resolve(context);
      return {};
    },
  );
  await client.echo({}, { timeoutMs: 500, headers: { "x-request-id": "detached-1", authorization: "Bearer secret" } });
  answered.resolve();
  const { requestHeader, timeoutMs } = await seen.promise;
  expect(requestHeader.get("x-request-id")).toBe("detached-1");
  expect(requestHeader.has("authorization")).toBe(false);
  expect(timeoutMs()).toBeGreaterThan(500);
});

test("a call passes on its ids, trace and token, and no other header", async () => {
  const seen = Promise.withResolvers<Headers>();
  const { client } = await openTwo(
    (b) => b.echo({}),
    (_request, { requestHeader }) => {
      seen.resolve(requestHeader);
      return {};
    },
  );
  const traceId = "0af7651916cd43dd8448eb211c80319c";
  const headers = {
    authorization: "Bearer secret",
    baggage: "tenant=1",
    cookie: "session=1",
    traceparent: `00-${traceId}-b7ad6b7169203331-01`,
    tracestate: "vendor=1",
    "x-other": "no",
    "x-request-id": "request-1",
  };
  await client.echo({}, { headers });
  const received = await seen.promise;
  expect(received.get("traceparent")).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
  expect(received.get("traceparent")).not.toBe(headers.traceparent);
  for (const name of ["authorization", "baggage", "tracestate", "x-request-id"] as const) expect(received.get(name)).toBe(headers[name]);
  for (const name of ["cookie", "x-other"]) expect(received.has(name)).toBe(false);
});

test("a header to pass on that gRPC cannot carry is left out", async () => {
  const seen = Promise.withResolvers<Headers>();
  const { client } = await openTwo(
    (b) => b.echo({}),
    (_request, { requestHeader }) => {
      seen.resolve(requestHeader);
      return {};
    },
  );
  const inMemory = createClient(
    EchoService,
    createRouterTransport((router) => router.service(EchoService, { echo: () => client.echo({}) }), {
      router: { interceptors: [currentCall] },
    }),
  );
  await inMemory.echo({}, { headers: { baggage: "ä", authorization: "Bearer ok" } });
  expect((await seen.promise).has("baggage")).toBe(false);
  expect((await seen.promise).get("authorization")).toBe("Bearer ok");
});

test.each(["", "has spaces", "x".repeat(129), "<script>"])("a request id that is no plain word is replaced: %j", async (given) => {
  const client = clientOf(await openServerOf());
  let answered = "";
  await client.echo({}, { headers: { "x-request-id": given }, onHeader: (header) => (answered = header.get("x-request-id") ?? "") });
  expect(answered).toMatch(/^[0-9a-f-]{36}$/);
});

test.each([
  { code: Code.Canceled, becomes: Code.Canceled },
  { code: Code.DeadlineExceeded, becomes: Code.DeadlineExceeded },
  { code: Code.Unavailable, becomes: Code.Unavailable },
  { code: Code.NotFound, becomes: Code.Internal },
  { code: Code.InvalidArgument, becomes: Code.Internal },
  { code: Code.PermissionDenied, becomes: Code.Internal },
  { code: Code.Internal, becomes: Code.Internal },
  { code: Code.ResourceExhausted, becomes: Code.Internal },
])("a neighbour's code $code that nobody answered becomes $becomes, without its words", async ({ code, becomes }) => {
  const { client } = await openTwo(
    (b) => b.echo({}),
    () => {
      throw new ConnectError("the neighbour's secret", code, { "x-secret": "1" });
    },
  );
  const error = await failureOf(client.echo({}));
  expect(error.code).toBe(becomes);
  expect(error.rawMessage).not.toContain("secret");
  expect(error.metadata.has("x-secret")).toBe(false);
});

test("a neighbour that is too busy makes its caller UNAVAILABLE, with the same delay", async () => {
  const { client } = await openTwo(
    (b) => b.echo({}),
    () => {
      throw new ConnectError("busy", Code.ResourceExhausted, undefined, [
        { desc: RetryInfoSchema, value: { retryDelay: { seconds: 7n } } },
      ]);
    },
  );
  const error = await failureOf(client.echo({}));
  expect(error.code).toBe(Code.Unavailable);
  expect(error.findDetails(RetryInfoSchema)).toMatchObject([{ retryDelay: { seconds: 7n } }]);
});

test("a failure carries the request's id", async () => {
  const client = clientOf(await openServerOf());
  const error = await failureOf(client.echo({ ending: { code: 5 } }, { headers: { "x-request-id": "failed-1" } }));
  expect(error.metadata.get("x-request-id")).toBe("failed-1");
});
