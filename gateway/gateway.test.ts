import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import { Code, createClient, type Transport } from "@connectrpc/connect";
import { codeToHttpStatus, codeToString } from "@connectrpc/connect/protocol-connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { eventually, standstill } from "@parley/chassis/testing/eventually.ts";
import { failureOf } from "@parley/chassis/testing/failure.ts";
import { callAndVanish, callRaw, grpcFrame } from "@parley/chassis/testing/raw-grpc.ts";
import { Code as RpcCode } from "@parley/gen/google/rpc/code_pb.js";
import { BadRequestSchema, ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { ServerReflection } from "@parley/gen/grpc/reflection/v1/reflection_pb.js";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { describe, expect, onTestFinished, test } from "vitest";
import { openTestGateway, talk } from "./testing.ts";

const echoPath = "/parley.testing.v1.EchoService/Echo";

const transports: Record<string, (baseUrl: string) => Transport> = {
  "Connect with JSON": (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
  "Connect with protobuf": (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: true }),
  "Connect by GET": (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useHttpGet: true }),
  "Connect over HTTP/2": (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2" }),
  "gRPC-Web over HTTP/1.1": (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
  "gRPC-Web over HTTP/2": (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "2" }),
  gRPC: (baseUrl) => createGrpcTransport({ baseUrl }),
};
const codes = Object.values(Code).filter((code) => typeof code === "number");

function post(url: string, body: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });
}

describe.each(Object.entries(transports))("%s", (_name, transport) => {
  test("carries calls and streams", async () => {
    const { url } = await openTestGateway();
    const client = createClient(EchoService, transport(url));
    expect(await client.echo({ text: "hi", numbers: [1, 2] })).toMatchObject({ text: "hi", numbers: [1, 2] });
    expect((await Array.fromAsync(client.repeat({ text: "x", count: 3 }))).map(({ index }) => index)).toEqual([0, 1, 2]);
  });

  test("brings every status code of a service unchanged, and its details", async () => {
    const { url } = await openTestGateway();
    const client = createClient(EchoService, transport(url));
    for (const code of codes) {
      const ending = { code: Number(code) };
      expect(await failureOf(client.echo({ ending }))).toMatchObject({ code, rawMessage: "as asked" });
      expect(await failureOf(Array.fromAsync(client.repeat({ ending })))).toMatchObject({ code, rawMessage: "as asked" });
    }
    const error = await failureOf(client.echo({ ending: { code: RpcCode.FAILED_PRECONDITION } }));
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason: "AS_ASKED", domain: "parley.testing.v1", metadata: { why: "test" } },
    ]);
  });

  test("carries a deadline on, and a cancellation to the handler", async () => {
    const cancelled = Promise.withResolvers<void>();
    const left = Promise.withResolvers<number | undefined>();
    const { url } = await openTestGateway({
      handlers: {
        echo: (_request, { signal, timeoutMs }) => {
          left.resolve(timeoutMs());
          signal.addEventListener("abort", () => cancelled.resolve());
          return new Promise(() => {});
        },
      },
    });
    const client = createClient(EchoService, transport(url));
    const controller = new AbortController();
    const failure = failureOf(client.echo({}, { signal: controller.signal, timeoutMs: 15_000 }));
    expect(await left.promise).toBeLessThanOrEqual(15_000);
    controller.abort();
    expect(await failure).toMatchObject({ code: Code.Canceled });
    await cancelled.promise;
  });
});

test.each(["gRPC", "Connect over HTTP/2"])("%s streams both ways", async (name) => {
  const { url } = await openTestGateway();
  const client = createClient(EchoService, transports[name]!(url));
  async function* requests() {
    for (const text of ["a", "b", "c"]) yield { text };
  }
  expect((await client.collect(requests())).text).toBe("abc");
  expect((await Array.fromAsync(client.chat(requests()))).map(({ text }) => text)).toEqual(["a", "b", "c"]);
});

test.each(["gRPC", "Connect over HTTP/2"])("%s brings what a service says after its message: its trailer, or its error", async (name) => {
  const { url } = await openTestGateway({
    handlers: {
      collect: async (_requests, { responseTrailer }) => {
        responseTrailer.set("x-count", "3");
        return { text: "three" };
      },
    },
  });
  const client = createClient(EchoService, transports[name]!(url));
  const trailer = Promise.withResolvers<Headers>();
  await client.collect((async function* () {})(), { onTrailer: trailer.resolve });
  expect((await trailer.promise).get("x-count")).toBe("3");
});

test("a message over the limit in a client's stream is told as what it is", async () => {
  const { url } = await openTestGateway();
  const client = createClient(EchoService, createGrpcTransport({ baseUrl: url }));
  async function* requests() {
    yield { text: "x".repeat(5 * 2 ** 20) };
  }
  expect(await failureOf(client.collect(requests()))).toMatchObject({ code: Code.ResourceExhausted });
});

test("a reader that is slow holds the service back, through the gateway", async () => {
  let sent = 0;
  const size = 64 * 1024;
  const { url } = await openTestGateway({
    handlers: {
      repeat: async function* () {
        for (const text = "x".repeat(size); ; sent++) yield { text };
      },
    },
  });
  const session = connectHttp2(url);
  onTestFinished(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": "/parley.testing.v1.EchoService/Repeat",
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.end(Buffer.alloc(5));
  await new Promise((resolve) => stream.once("response", resolve));
  await standstill(() => sent);
  expect(sent * size).toBeLessThan(32 * 1024 * 1024);
});

describe("REST", () => {
  test.each(codes)("answers code %i with its HTTP status and google.rpc.Status", async (code) => {
    const { url } = await openTestGateway();
    const response = await post(`${url}/testing/echo`, JSON.stringify({ ending: { code: Number(code) } }));
    expect(response.status).toBe(codeToHttpStatus(code));
    expect(await response.json()).toMatchObject({ code, message: "as asked" });
  });

  test("asks who is not known for a token", async () => {
    const { url } = await openTestGateway();
    const call = await fetch(`${url}/testing/secret`);
    expect([call.status, call.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
  });

  test("tells an error's details and the request's id", async () => {
    const { url } = await openTestGateway();
    const response = await post(`${url}/testing/echo`, '{"ending":{"code":"FAILED_PRECONDITION"}}', { "x-request-id": "rest-1" });
    expect(response.headers.get("x-request-id")).toBe("rest-1");
    expect(await response.json()).toMatchObject({
      details: [{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "AS_ASKED", domain: "parley.testing.v1" }],
    });
  });

  test("takes fields from the path, the query and the body", async () => {
    const { url } = await openTestGateway();
    expect(await (await fetch(`${url}/testing/echo/a%20b?numbers=1&numbers=2`)).json()).toEqual({ text: "a b", numbers: [1, 2] });
    expect(await (await post(`${url}/testing/echo`, '{"text":"x","numbers":[3]}')).json()).toEqual({ text: "x", numbers: [3] });
    expect(await (await post(`${url}/testing/echo:once`, '{"text":"once"}')).json()).toEqual({ text: "once" });
    const nested = await fetch(`${url}/testing/echo/x?ending.code=NOT_FOUND&ending.delay=0.01s`);
    expect(nested.status).toBe(404);
  });

  test("says what it takes where the verb is wrong, and answers HEAD like GET", async () => {
    const { url } = await openTestGateway();
    const wrong = await fetch(`${url}/testing/echo/x`, { method: "DELETE" });
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    const head = await fetch(`${url}/testing/echo/x`, { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });
});

describe("streams over REST", () => {
  const repeat = "/testing/repeat?text=x&count=2";

  test("are lines of JSON, and an error after a message is the last line", async () => {
    const { url } = await openTestGateway();
    const whole = await fetch(url + repeat);
    expect([whole.status, whole.headers.get("content-type")]).toEqual([200, "application/x-ndjson"]);
    expect(await whole.text()).toBe('{"result":{"text":"x"}}\n{"result":{"text":"x","index":1}}\n');
    const [first, second, last] = (await (await fetch(`${url}${repeat}&ending.code=NOT_FOUND`)).text()).split("\n");
    expect([first, second]).toEqual(['{"result":{"text":"x"}}', '{"result":{"text":"x","index":1}}']);
    expect(JSON.parse(last!)).toMatchObject({ error: { code: Code.NotFound, message: "as asked" } });
  });

  test("are events where the client accepts them, and the last one is their status", async () => {
    const { url } = await openTestGateway();
    const headers = { accept: "text/event-stream" };
    const whole = await fetch(url + repeat, { headers });
    expect([whole.headers.get("content-type"), whole.headers.get("cache-control")]).toEqual(["text/event-stream", "no-store"]);
    expect(await whole.text()).toBe(
      'data: {"text":"x"}\n\ndata: {"text":"x","index":1}\n\nevent: status\ndata: {"code":0,"message":"","details":[]}\n\n',
    );
    const failed = await (await fetch(`${url}${repeat}&ending.code=NOT_FOUND`, { headers })).text();
    expect(failed).toMatch(/event: status\ndata: \{"code":5,"message":"as asked"/);
  });

  test("that fail before a message are errors as any other", async () => {
    const { url } = await openTestGateway();
    const response = await fetch(`${url}/testing/repeat?ending.code=NOT_FOUND`, { headers: { accept: "text/event-stream" } });
    expect([response.status, response.headers.get("content-type")]).toEqual([404, "application/json"]);
    expect(await response.json()).toMatchObject({ code: Code.NotFound });
  });

  test("end in the service when their reader leaves", async () => {
    const cancelled = Promise.withResolvers<void>();
    const { url } = await openTestGateway({
      handlers: {
        repeat: async function* (_request, { signal }) {
          signal.addEventListener("abort", () => cancelled.resolve());
          yield {};
          await new Promise(() => {});
        },
      },
    });
    const leaving = new AbortController();
    const response = await fetch(url + repeat, { signal: leaving.signal });
    await response.body?.getReader().read();
    leaving.abort();
    await cancelled.promise;
  });

  test("take a token from the URL where they are events, and nothing else does", async () => {
    const seen: (string | null)[] = [];
    const { url } = await openTestGateway({
      handlers: {
        repeat: async function* (_request, { requestHeader }) {
          seen.push(requestHeader.get("authorization"));
          yield {};
        },
      },
    });
    const events = await fetch(`${url}${repeat}&access_token=t`, { headers: { accept: "text/event-stream" } });
    expect([events.status, await events.text(), seen]).toEqual([200, expect.stringContaining("data:"), ["Bearer t"]]);
    expect((await fetch(`${url}${repeat}&access_token=t`)).status).toBe(400);
    expect((await fetch(`${url}/testing/echo/x?access_token=t`)).status).toBe(400);
  });
});

describe("bad input is refused with a word of why, and the next call works:", () => {
  const json = "application/json";
  test.each([
    ["malformed JSON", "POST", echoPath, json, '{"text":', 400, /JSON/],
    ["malformed JSON for REST", "POST", "/testing/echo", json, '{"text":', 400, /the body is not JSON/],
    ["JSON that is no object", "POST", "/testing/echo", json, "[1]", 400, /not a JSON object/],
    ["an unknown field", "POST", echoPath, json, '{"txet":"x"}', 400, /txet/],
    ["an unknown field for REST", "POST", "/testing/echo", json, '{"txet":"x"}', 400, /txet/],
    ["an unknown query parameter", "GET", "/testing/echo/x?txet=1", json, undefined, 400, /txet/],
    ["a query parameter beside a whole body", "POST", "/testing/echo?text=1", json, "{}", 400, /text/],
    ["a value of the wrong type", "POST", "/testing/echo", json, '{"numbers":["x"]}', 400, /numbers/],
    ["bytes that are not UTF-8", "POST", "/testing/echo", json, Buffer.from([0x22, 0xff, 0x22]), 400, /not JSON/],
    ["a wrong content type", "POST", echoPath, "text/plain", "hi", 415, /Echo takes application\/json .*, not text\/plain: curl needs/],
    ["a wrong content type for REST", "POST", "/testing/echo", "text/plain", "hi", 415, /takes application\/json/],
    ["a wrong verb", "PUT", echoPath, json, "{}", 405, /Echo takes .*POST.*, not PUT/],
    ["an unknown method", "POST", "/parley.testing.v1.EchoService/Nothing", json, "{}", 404, /there is nothing/],
    ["an unknown path", "GET", "/nothing", json, undefined, 404, /there is nothing/],
    ["a path that is not decodable", "GET", "/testing/echo/%ff", json, undefined, 404, /there is nothing/],
    [
      "a broken rule of the contract",
      "POST",
      "/testing/echo",
      json,
      JSON.stringify({ text: "x".repeat(3 * 2 ** 20 + 1) }),
      400,
      /text: must be at most/,
    ],
    ["a body over the limit", "POST", echoPath, json, JSON.stringify({ text: "x".repeat(5 * 2 ** 20) }), 429, /4194304/],
    ["a body over the limit for REST", "POST", "/testing/echo", json, JSON.stringify({ text: "x".repeat(5 * 2 ** 20) }), 413, /4194304/],
    [
      "a Connect GET for a method with side effects",
      "GET",
      "/parley.testing.v1.EchoService/EchoOnce?encoding=json&message=%7B%7D",
      json,
      undefined,
      405,
      /EchoOnce takes POST, not GET/,
    ],
    [
      "a message that is no protobuf",
      "POST",
      echoPath,
      "application/proto",
      Buffer.from([0xff, 0xff]),
      400,
      /"invalid_argument","message":"parse binary/,
    ],
    [
      "a token in the URL that no header may hold",
      "GET",
      "/testing/repeat?access_token=a%0Ab",
      "text/event-stream",
      undefined,
      400,
      /access_token/,
    ],
    ["text that is not Unicode", "POST", echoPath, json, '{"\\ud800":1}', 400, /invalid_argument|not Unicode/],
    ["text that is not Unicode for REST", "POST", "/testing/echo", json, '{"\\ud800":1}', 400, /key/],
  ] as const)("%s", async (_title, method, path, type, body, status, text) => {
    const { url } = await openTestGateway();
    const response = await fetch(url + path, {
      method,
      headers: { "content-type": type, accept: type },
      ...(body !== undefined && { body }),
    });
    expect(response.status).toBe(status);
    expect(await response.text()).toMatch(text);
    expect((await fetch(`${url}/testing/echo/next`)).status).toBe(200);
  });

  test.each([
    ["closes", (socket: Socket) => socket.end()],
    ["resets its connection", (socket: Socket) => socket.resetAndDestroy()],
  ])("a client that sends requests one behind the other and %s", async (_title, leave) => {
    const { url, port } = await openTestGateway();
    for (let round = 0; round < 30; round++) {
      const socket = connectTcp(port, "127.0.0.1").on("error", () => {});
      socket.write("GET /testing/echo/x HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2), () => leave(socket));
      await once(socket.resume(), "close");
    }
    expect((await fetch(`${url}/testing/echo/next`)).status).toBe(200); // and nothing was thrown meanwhile, or Vitest fails
  });

  test("field violations say which field", async () => {
    const { url } = await openTestGateway();
    const client = createClient(EchoService, transports["Connect with JSON"]!(url));
    const error = await failureOf(client.echo({ text: "x".repeat(3 * 2 ** 20 + 1) }));
    expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations).toMatchObject([{ field: "text" }]);
  });

  test("text that is not Unicode in JSON over gRPC, which an error cannot repeat", async () => {
    const { url } = await openTestGateway();
    const body = grpcFrame(Buffer.from('{"\\ud800":1}'));
    expect(await callRaw(url, echoPath, body, { "content-type": "application/grpc+json" })).toBe(RpcCode.INVALID_ARGUMENT);
  });

  test.each([
    ["a gRPC frame that is cut off", grpcFrame(Buffer.from("short"), { length: 100 }), RpcCode.INVALID_ARGUMENT],
    ["a gRPC frame flagged as compressed, which it is not", grpcFrame(Buffer.from([10, 1, 97]), { flags: 1 }), RpcCode.INTERNAL],
    ["a gRPC frame that is too long", grpcFrame(Buffer.alloc(10), { length: 2 ** 31 }), RpcCode.RESOURCE_EXHAUSTED],
  ])("%s", async (_title, body, status) => {
    const { url } = await openTestGateway();
    expect(await callRaw(url, echoPath, body)).toBe(status);
    expect(await callRaw(url, echoPath, grpcFrame(Buffer.from([10, 1, 97])))).toBe(RpcCode.OK);
  });

  test("a method that there is not, over gRPC, whose status ends the stream", async () => {
    const { url } = await openTestGateway();
    const session = connectHttp2(url);
    onTestFinished(() => session.destroy());
    const headers = {
      ":method": "POST",
      ":path": "/parley.testing.v1.EchoService/Nothing",
      "content-type": "application/grpc",
      te: "trailers",
    };
    const [trailers, flags] = await once(session.request(headers).end(grpcFrame(Buffer.of())).resume(), "trailers");
    expect([trailers["grpc-status"], flags & constants.NGHTTP2_FLAG_END_STREAM]).toEqual(["12", constants.NGHTTP2_FLAG_END_STREAM]);
  });

  test.each(["gRPC", "gRPC-Web over HTTP/1.1", "Connect with JSON"])("a method that there is not, over %s", async (name) => {
    const { url } = await openTestGateway();
    const client = createClient(GreeterService, transports[name]!(url));
    expect(await failureOf(client.hello({}))).toMatchObject({
      code: Code.Unimplemented,
      rawMessage: `there is no method /${GreeterService.typeName}/Hello`,
    });
  });

  test("a client that disappears in the midst of a stream", async () => {
    const cancelled = Promise.withResolvers<void>();
    const { url } = await openTestGateway({
      handlers: {
        repeat: async function* (_request, { signal }) {
          signal.addEventListener("abort", () => cancelled.resolve());
          yield {};
          await new Promise(() => {});
        },
      },
    });
    await callAndVanish(url, "/parley.testing.v1.EchoService/Repeat", grpcFrame(Buffer.of()));
    await cancelled.promise;
    expect((await fetch(`${url}/testing/echo/next`)).status).toBe(200);
  });

  test("a client that opens streams to reset them at once, whose connection is closed", async () => {
    const { url } = await openTestGateway();
    const session = connectHttp2(url).on("error", () => {});
    const closed = new Promise((resolve) => session.once("close", resolve));
    for (let sent = 0; !session.closed && sent < 30_000; sent++) {
      const stream = session.request({ ":path": "/testing/echo/x" }).on("error", () => {});
      stream.close(constants.NGHTTP2_CANCEL);
      if (sent % 100 === 0) await new Promise(setImmediate);
    }
    await closed;
    expect((await fetch(`${url}/testing/echo/next`)).status).toBe(200);
  });

  test.each([
    ["PROTOCOL_ERROR", constants.NGHTTP2_PROTOCOL_ERROR],
    ["INTERNAL_ERROR", constants.NGHTTP2_INTERNAL_ERROR],
    ["COMPRESSION_ERROR", constants.NGHTTP2_COMPRESSION_ERROR],
  ])("a client that resets its stream with %s, which counts as cancelled", async (_title, code) => {
    const { url, port } = await openTestGateway();
    const session = connectHttp2(url);
    onTestFinished(() => session.destroy());
    const stream = session.request({
      ":method": "POST",
      ":path": "/parley.testing.v1.EchoService/Repeat",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => {}).end(grpcFrame(Buffer.from([16, 1, 26, 4, 18, 2, 8, 60]))); // count 1, then a delay of 60 s
    await once(stream, "data");
    stream.close(code);
    await eventually(async () => {
      const metrics = await (await fetch(`http://127.0.0.1:${port + 1}/metrics`)).text();
      expect(metrics).toMatch(
        /rpc_server_call_duration_seconds_count\{[^}]*service_name="gateway"[^}]*rpc_response_status_code="CANCELLED"\} 1/,
      );
    });
  });

  test.each([
    ["no host, in HTTP/1.0", `POST ${echoPath} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`],
    ["a host that is none", `GET /testing/echo/x HTTP/1.1\r\nhost: a b\r\n\r\n`],
    ["a path with an empty segment first", "GET //x/testing/echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"],
    ["a path with dots", "GET /x/../testing/echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"],
    ["an absolute URL with dots", "GET http://evil.example/x/../testing/echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"],
    ["a path with a backslash", "GET /testing\\echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"],
    ["no HTTP at all", "hello\r\n\r\n"],
    ["half a preface of HTTP/2 and then something else", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"],
  ])("%s", async (_title, bytes) => {
    const { url, port } = await openTestGateway();
    expect(await talk(port, bytes)).toMatch(/^(HTTP\/1\.1 4\d\d .*|)$/m);
    expect((await fetch(`${url}/testing/echo/next`)).status).toBe(200);
  });
});

describe("CORS", () => {
  const origin = "http://localhost:5173";
  const preflight = { "access-control-request-method": "POST", "access-control-request-headers": "content-type,connect-protocol-version" };

  test("lets the pages of a configured origin in", async () => {
    const { url } = await openTestGateway({ env: { PARLEY_CORS_ORIGINS: `https://shop.example, ${origin}` } });
    const asked = await fetch(url + echoPath, { method: "OPTIONS", headers: { origin, ...preflight } });
    expect(asked.status).toBe(204);
    expect(asked.headers.get("access-control-allow-origin")).toBe(origin);
    expect(asked.headers.get("access-control-allow-methods")).toContain("POST");
    expect(asked.headers.get("access-control-allow-headers")?.toLowerCase()).toContain("connect-protocol-version");
    const called = await post(url + echoPath, "{}", { origin });
    expect(called.headers.get("access-control-allow-origin")).toBe(origin);
    expect(called.headers.get("access-control-expose-headers")?.toLowerCase()).toContain("grpc-status");
  });

  test("lets no other page in", async () => {
    const { url } = await openTestGateway({ env: { PARLEY_CORS_ORIGINS: origin } });
    for (const method of ["OPTIONS", "GET"]) {
      const response = await fetch(`${url}/testing/echo/x`, { method, headers: { origin: "http://evil.example", ...preflight } });
      expect(response.headers.has("access-control-allow-origin")).toBe(false);
      expect(response.headers.get("vary")).toContain("origin");
    }
  });
});

test("a service that is down is UNAVAILABLE, without its address", async () => {
  const { url } = await openTestGateway({ env: { PARLEY_TESTING_TARGET: "dns:///127.0.0.1:1" } });
  const response = await post(url + echoPath, "{}");
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({
    code: codeToString(Code.Unavailable),
    message: "parley.testing.v1.EchoService cannot be reached; try again",
  });
});

test("an absolute URL is its path, for every kind of route", async () => {
  const { port } = await openTestGateway();
  for (const path of ["/testing/echo/x", "/docs", `${echoPath}?encoding=json&message=%7B%7D`]) {
    const answer = await talk(port, `GET http://user:word@x${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK/);
  }
});

test("a verb that a call of Connect does not take is told with those that it does", async () => {
  const { url } = await openTestGateway();
  const response = await fetch(url + echoPath, { method: "DELETE" });
  expect([response.status, response.headers.get("allow")]).toEqual([405, "POST, GET"]);
});

test("the gateway describes its contracts where that is configured, and nowhere else", async () => {
  const list = async (env: NodeJS.ProcessEnv): Promise<string[]> => {
    const { url } = await openTestGateway({ env });
    const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: url }));
    async function* question() {
      yield { messageRequest: { case: "listServices" as const, value: "" } };
    }
    for await (const { messageResponse } of client.serverReflectionInfo(question()))
      if (messageResponse.case === "listServicesResponse") return messageResponse.value.service.map(({ name }) => name);
    return [];
  };
  expect(await list({ PARLEY_GATEWAY_REFLECTION: "on" })).toContain("parley.testing.v1.EchoService");
  await expect(list({})).rejects.toThrow(/unimplemented/);
});
