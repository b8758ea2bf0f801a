import { Code, createClient, createRouterTransport } from "@connectrpc/connect";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { failureOf } from "../testing/failure.ts";
import { openTestChain, openTestEcho, openTestTransport } from "../testing/rpc.ts";
import { testTelemetry } from "../testing/telemetry.ts";
import { detach } from "./current-call.ts";
import { currentCall } from "./interceptors/current-call.ts";

test("what is left of a call's deadline is all that its own calls have", async () => {
  const { client, seen } = await openTestChain((b) => b.echo({}, { timeoutMs: 60_000 }));
  await client.echo({}, { timeoutMs: 10_000 });
  const leftMs = (await seen).timeoutMs();
  expect(leftMs).toBeGreaterThan(5_000);
  expect(leftMs).toBeLessThanOrEqual(10_000);
});

test("a call that is cancelled takes its own calls with it", async () => {
  const [running, cancelled] = [Promise.withResolvers<void>(), Promise.withResolvers<unknown>()];
  const { client } = await openTestChain(
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
  const { client: b } = await openTestEcho({
    echo: (_request, { requestHeader }) => {
      headers.resolve(requestHeader);
      return {};
    },
  });
  const { client } = await openTestEcho({
    async *repeat() {
      yield {};
      await b.echo({}); // in the second pull of the stream
    },
  });
  await Array.fromAsync(client.repeat({}, { headers: { "x-request-id": "stream-1" } }));
  expect((await headers.promise).get("x-request-id")).toBe("stream-1");
});

test("detached work outlives its call, with the request's ids and without the user's token", async () => {
  const answered = Promise.withResolvers<void>();
  const { client, seen } = await openTestChain(async (b) => {
    detach(() => answered.promise.then(() => b.echo({})));
  });
  await client.echo({}, { timeoutMs: 500, headers: { "x-request-id": "detached-1", authorization: "Bearer secret" } });
  answered.resolve();
  const { requestHeader, timeoutMs } = await seen;
  expect(requestHeader.get("x-request-id")).toBe("detached-1");
  expect(requestHeader.has("authorization")).toBe(false);
  expect(timeoutMs()).toBeGreaterThan(500);
});

test("a call passes on its ids, trace and token, and no other header", async () => {
  const { client, seen } = await openTestChain();
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
  const { requestHeader: received } = await seen;
  expect(received.get("traceparent")).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`));
  expect(received.get("traceparent")).not.toBe(headers.traceparent);
  for (const name of ["authorization", "baggage", "tracestate", "x-request-id"] as const) expect(received.get(name)).toBe(headers[name]);
  for (const name of ["cookie", "x-other"]) expect(received.has(name)).toBe(false);
});

test("a header to pass on that gRPC cannot carry is left out", async () => {
  const { client, seen } = await openTestChain();
  const inMemory = createClient(
    EchoService,
    createRouterTransport((router) => router.service(EchoService, { echo: () => client.echo({}) }), {
      router: { interceptors: [currentCall({ isEdge: false, telemetry: testTelemetry() })] },
    }),
  );
  await inMemory.echo({}, { headers: { baggage: "ä", authorization: "Bearer ok" } });
  const { requestHeader } = await seen;
  expect(requestHeader.has("baggage")).toBe(false);
  expect(requestHeader.get("authorization")).toBe("Bearer ok");
});

test.each(["", "has spaces", "x".repeat(129), "<script>"])("a request id that is no plain word is replaced: %j", async (given) => {
  const { client } = await openTestEcho();
  let answered = "";
  await client.echo({}, { headers: { "x-request-id": given }, onHeader: (header) => (answered = header.get("x-request-id") ?? "") });
  expect(answered).toMatch(/^[0-9a-f-]{36}$/);
});

test("a failure carries the request's id", async () => {
  const { client } = await openTestEcho();
  const error = await failureOf(client.echo({ ending: { code: 5 } }, { headers: { "x-request-id": "failed-1" } }));
  expect(error.metadata.get("x-request-id")).toBe("failed-1");
});

test("a user's token goes on to further calls; work in the background has the service's own; a call of nobody has none", async () => {
  const seen: (string | null)[] = [];
  const { server: b } = await openTestEcho({
    echo: (_request, { requestHeader }) => {
      seen.push(requestHeader.get("authorization"));
      return {};
    },
  });
  const clientOfB = createClient(EchoService, openTestTransport([b.port], { serviceToken: async () => "own" }));
  const { client } = await openTestEcho({
    async echo() {
      await clientOfB.echo({});
      await detach(() => clientOfB.echo({}));
      return {};
    },
  });
  await client.echo({}, { headers: { authorization: "Bearer alice" } });
  await client.echo({});
  await clientOfB.echo({});
  expect(seen).toEqual(["Bearer alice", "Bearer own", null, "Bearer own", "Bearer own"]);
});
