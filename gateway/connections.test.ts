import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import { connect as connectTcp } from "node:net";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { failureOf } from "@parley/chassis/testing/failure.ts";
import { grpcFrame } from "@parley/chassis/testing/raw-grpc.ts";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { describe, expect, onTestFinished, test } from "vitest";
import { openTestGateway, talk } from "./testing.ts";

const echoPath = "/parley.testing.v1.EchoService/Echo";

test("many connections at once are taken in within few turns of a busy event loop", async () => {
  const { port } = await openTestGateway();
  let [answered, turns] = [0, 0];
  const busy = (): void => {
    const untilMs = performance.now() + 5;
    while (performance.now() < untilMs);
    if (answered < 128) setImmediate(busy);
    turns++;
  };
  const talks = Array.from({ length: 128 }, async () => {
    await talk(port, "GET /testing/echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    answered++;
  });
  busy();
  await Promise.all(talks);
  expect(turns).toBeLessThan(128); // libuv takes in one a turn from each socket that listens
});

describe("slow clients are cut off, and others are served meanwhile:", () => {
  const env = { PARLEY_GATEWAY_HEADER_TIMEOUT: "200ms", PARLEY_GATEWAY_BODY_TIMEOUT: "200ms", PARLEY_GATEWAY_UNREAD_TIMEOUT: "200ms" };
  const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
  test.each([
    ["one that says nothing", ""],
    ["one that stops in its headers", "GET /testing/echo/x HTTP/1.1\r\nhost: x\r\n"],
    [
      "one that stops in its body",
      "POST /testing/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{",
    ],
    ["one that stops in the preface of HTTP/2", "PRI * HTTP/2.0\r\n"],
    ["one that stops in its headers of HTTP/2", `${preface}\0\0\x01\x01\x01\0\0\0\x01\x82`],
    ["one that stops in a body that nobody wants", "POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{"],
    ["one that stops in the body of a GET", "GET /testing/echo/x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{"],
  ])("%s", async (_title, bytes) => {
    const { url, port } = await openTestGateway({ env });
    const closed = talk(port, bytes);
    expect((await fetch(`${url}/testing/echo/other`)).status).toBe(200);
    await closed;
  });

  test("but not one whose request has no body and takes its time", async () => {
    const { url } = await openTestGateway({ env });
    expect((await fetch(`${url}/testing/echo/x?ending.delay=0.5s`)).status).toBe(200);
    const client = createClient(EchoService, createConnectTransport({ baseUrl: url, httpVersion: "2", useHttpGet: true }));
    expect((await client.echo({ text: "x", ending: { delay: { nanos: 500_000_000 } } })).text).toBe("x");
  });

  test("one that stops in its body over HTTP/2", async () => {
    const { url } = await openTestGateway({ env });
    const session = connectHttp2(url);
    onTestFinished(() => session.destroy());
    const stream = session.request({ ":method": "POST", ":path": echoPath, "content-type": "application/json" });
    stream.on("error", () => {});
    stream.write("{");
    const [headers] = await once(stream, "response");
    expect(headers[":status"]).toBe(408);
  });

  test.each(["HTTP/1.1", "HTTP/2"])("one that does not read its answer, over %s", async (protocol) => {
    const cancelled = Promise.withResolvers<void>();
    const { url, port } = await openTestGateway({
      env,
      handlers: {
        repeat: async function* (_request, { signal }) {
          signal.addEventListener("abort", () => cancelled.resolve());
          for (const text = "x".repeat(64 * 1024); ; ) yield { text };
        },
      },
    });
    const path = "/parley.testing.v1.EchoService/Repeat";
    if (protocol === "HTTP/2") {
      const session = connectHttp2(url, { settings: { initialWindowSize: 0 } });
      onTestFinished(() => session.destroy());
      const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
      stream.on("error", () => {}).end(grpcFrame(Buffer.of()));
    } else {
      const socket = connectTcp(port, "127.0.0.1").on("error", () => {});
      onTestFinished(() => void socket.destroy());
      socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/connect+json\r\ncontent-length: 7\r\n\r\n\0\0\0\0\x02{}`);
    }
    expect((await fetch(`${url}/testing/echo/other`)).status).toBe(200);
    await cancelled.promise;
  });

  test("but not one that reads a stream which has nothing to say", async () => {
    const { url } = await openTestGateway({ env });
    const client = createClient(EchoService, createConnectTransport({ baseUrl: url, httpVersion: "1.1" }));
    const quiet = client.repeat({ count: 1, ending: { delay: { nanos: 600_000_000 } } });
    expect(await Array.fromAsync(quiet)).toHaveLength(1);
  });

  test("one with as many calls in progress as one address may have, or all", async () => {
    const limits = { PARLEY_GATEWAY_MAX_CALLS_PER_CLIENT: "2", PARLEY_GATEWAY_MAX_CALLS: "3" };
    const { url, port } = await openTestGateway({ env: limits });
    const from = (localAddress: string) =>
      createClient(
        EchoService,
        createGrpcTransport({
          baseUrl: url,
          nodeOptions: { createConnection: () => connectTcp({ port, host: "127.0.0.1", localAddress }) },
        }),
      );
    const leave = new AbortController();
    const hold = async (client: ReturnType<typeof from>): Promise<unknown> => {
      const stream = client.repeat({ count: 1, ending: { delay: { seconds: 60n } } }, { signal: leave.signal })[Symbol.asyncIterator]();
      return stream
        .next()
        .then(() => stream.next())
        .catch(() => {}); // until it is left
    };
    const [one, other] = [from("127.0.0.1"), from("127.0.0.2")];
    const held = [hold(one), hold(one)];
    const error = await eventually(async () => {
      const failure = await failureOf(one.echo({}));
      expect(failure).toMatchObject({ code: Code.ResourceExhausted, rawMessage: expect.stringMatching(/^too many calls of this client/) });
      return failure;
    });
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "TOO_MANY_CALLS" }]);
    const rest = await fetch(`${url}/testing/echo/x`);
    expect([rest.status, rest.headers.get("retry-after"), await rest.json()]).toMatchObject([
      429,
      "1",
      { code: Code.ResourceExhausted, details: [{ reason: "TOO_MANY_CALLS" }, { retryDelay: "1s" }] },
    ]);
    const connect = await fetch(url + echoPath, { method: "POST", headers: { "connect-protocol-version": "1" } });
    expect([connect.status, await connect.json()]).toMatchObject([429, { code: "resource_exhausted" }]);
    expect((await other.echo({ text: "let in" })).text).toBe("let in");
    held.push(hold(other));
    await eventually(async () => expect(await failureOf(from("127.0.0.3").echo({}))).toMatchObject({ code: Code.Unavailable }));
    const full = await fetch(`${url}/testing/echo/x`);
    expect([full.status, full.headers.get("retry-after"), await full.json()]).toMatchObject([503, "1", { code: Code.Unavailable }]);
    leave.abort();
    await Promise.all(held);
    await eventually(() => one.echo({}));
  });
});

test("a connection that was opened before the gateway drains may still send its first requests", async () => {
  const { port, running } = await openTestGateway({ env: { PARLEY_DRAIN_TIMEOUT: "15s" } });
  const socket = connectTcp(port, "127.0.0.1");
  await once(socket, "connect");
  await fetch(`http://127.0.0.1:${port}/testing/echo/x`); // by now the connection before it was taken, too
  const stopped = running.stop();
  await new Promise(setImmediate);
  socket.write("GET /testing/echo/late HTTP/1.1\r\nhost: x\r\n\r\n".repeat(3));
  const answers = (await socket.setEncoding("utf8").toArray()).join("");
  expect(answers.match(/HTTP\/1\.1 200 /g)).toHaveLength(3);
  await stopped;
});

test("a request that expects 100-continue is served, and one that is gone by then harms nobody", async () => {
  const { url, port } = await openTestGateway();
  const head = "POST /testing/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 13\r\nconnection: close\r\n";
  expect(await talk(port, `${head}expect: 100-continue\r\n\r\n{"text":"ok"}`)).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /);
  expect(await talk(port, `${head}expect: miracles\r\n\r\n{"text":"ok"}`)).toMatch(/^HTTP\/1\.1 200 /);
  const session = connectHttp2(url);
  onTestFinished(() => session.destroy());
  for (let count = 0; count < 20; count++) {
    const stream = session.request({ ":method": "POST", ":path": "/testing/echo", expect: "100-continue" }).on("error", () => {});
    stream.close(constants.NGHTTP2_CANCEL); // in the same packet
    await once(stream, "close");
  }
  expect((await fetch(`${url}/testing/echo/next`)).status).toBe(200);
});

test("a client that sends very many requests ahead of their answers is cut off", async () => {
  const { url, port } = await openTestGateway();
  const answers = await talk(port, "GET /testing/echo/x HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1_000));
  expect(answers.split("HTTP/1.1 200").length).toBeLessThan(100);
  expect(
    (
      await talk(
        port,
        `${"GET /testing/echo/x HTTP/1.1\r\nhost: x\r\n\r\n".repeat(9)}GET /testing/echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`,
      )
    ).split("HTTP/1.1 200").length,
  ).toBe(11);
  expect((await fetch(`${url}/testing/echo/next`)).status).toBe(200);
});

test("requests whose connection is gone count no more, however many were sent ahead of their answers", async () => {
  const { url, port } = await openTestGateway({ env: { PARLEY_GATEWAY_MAX_CALLS: "30" } });
  for (let round = 0; round < 10; round++) {
    const socket = connectTcp(port, "127.0.0.1").on("error", () => {});
    socket.write("GET /testing/echo/x?ending.delay=60s HTTP/1.1\r\nhost: x\r\n\r\n".repeat(10));
    await eventually(async () => {
      const metrics = await (await fetch(`http://127.0.0.1:${port + 1}/metrics`)).text();
      expect(metrics).toMatch(/parley_rpc_server_active_calls\{[^}]*service_name="gateway"[^}]*\} 10\n/);
    });
    socket.resetAndDestroy();
  }
  await eventually(async () => expect((await fetch(`${url}/testing/echo/next`)).status).toBe(200));
});

test("what is refused, and a CONNECT behind other requests, count for nothing afterwards", async () => {
  const { url, port } = await openTestGateway({ env: { PARLEY_GATEWAY_MAX_CALLS: "30", PARLEY_GATEWAY_MAX_CALLS_PER_CLIENT: "20" } });
  for (let round = 0; round < 5; round++) {
    const get = "GET /testing/echo/x HTTP/1.1\r\nhost: x\r\n\r\n";
    await talk(port, `${get.repeat(15)}CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n`, "127.0.0.9");
  }
  const session = connectHttp2(url, {
    settings: { initialWindowSize: 0 },
    createConnection: () => connectTcp({ port, host: "127.0.0.1", localAddress: "127.0.0.9" }),
  });
  session.on("error", () => {});
  onTestFinished(() => session.destroy());
  const statuses: number[] = [];
  for (let count = 0; count < 100; count++) {
    const stream = session.request({ ":path": "/testing/echo/x" }).on("error", () => {});
    stream.on("response", (headers) => statuses.push(Number(headers[":status"])));
  }
  await eventually(() => expect(statuses.filter((status) => status === 429)).toHaveLength(80));
  expect((await fetch(`${url}/testing/echo/other`)).status).toBe(200);
});

test("a HEAD over HTTP/2 whose body never comes is ended", async () => {
  const { url } = await openTestGateway({ env: { PARLEY_GATEWAY_BODY_TIMEOUT: "200ms" } });
  const session = connectHttp2(url);
  onTestFinished(() => session.destroy());
  const stream = session.request({ ":method": "HEAD", ":path": "/testing/echo/x" }, { endStream: false }).on("error", () => {});
  await once(stream, "close");
  expect((await fetch(`${url}/testing/echo/next`)).status).toBe(200);
});

test("one address has as many connections as it may have; others get theirs", async () => {
  const { url, port } = await openTestGateway({ env: { PARLEY_GATEWAY_MAX_CONNECTIONS_PER_CLIENT: "3" } });
  const sockets = Array.from({ length: 3 }, () => connectTcp({ port, host: "127.0.0.1", localAddress: "127.0.0.9" }));
  onTestFinished(() => sockets.forEach((socket) => void socket.destroy()));
  await Promise.all(sockets.map((socket) => once(socket, "connect")));
  const fourth = connectTcp({ port, host: "127.0.0.1", localAddress: "127.0.0.9" }).on("error", () => {});
  await once(fourth, "close");
  expect((await fetch(`${url}/testing/echo/other`)).status).toBe(200);
  sockets[0]!.destroy();
  await eventually(async () => {
    expect(await talk(port, "GET /testing/echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "127.0.0.9")).toMatch(
      /^HTTP\/1\.1 200 /,
    );
  });
});

test("answers that a slow reader has not read yet are not lost when the gateway drains", async () => {
  const { url, port, running } = await openTestGateway({ env: { PARLEY_DRAIN_TIMEOUT: "15s" } });
  const text = "x".repeat(2 * 2 ** 20);
  const socket = connectTcp(port, "127.0.0.1").pause();
  const body = JSON.stringify({ text });
  for (let count = 0; count < 4; count++)
    socket.write(
      `POST /testing/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
  const metrics = async () => (await fetch(`http://127.0.0.1:${port + 1}/metrics`)).text();
  await eventually(async () =>
    expect(await metrics()).toMatch(
      /rpc_server_call_duration_seconds_count\{[^}]*service_name="gateway"[^}]*rpc_response_status_code="OK"\} 4/,
    ),
  );
  const stopped = running.stop();
  await eventually(async () => expect(await fetch(url).catch(() => "refused")).toBe("refused"));
  let received = 0;
  socket
    .on("data", (chunk) => {
      received += chunk.length;
    })
    .resume();
  await once(socket, "end");
  socket.end();
  await stopped;
  expect(received).toBeGreaterThan(4 * text.length);
});

test.each([
  ["Connect", echoPath, "application/json"],
  ["a stream of Connect", "/parley.testing.v1.EchoService/Repeat", "application/connect+json"],
  ["gRPC-Web", echoPath, "application/grpc-web"],
  ["REST", "/testing/echo", "application/json"],
  ["REST that takes no body", "/testing/echo/x", "application/json"],
  ["a path that there is not", "/nothing", "application/json"],
])("a connection whose request is refused before its body is read goes on with the next one: %s", async (_title, path, type) => {
  const { port } = await openTestGateway({ env: { PARLEY_MAX_MESSAGE_BYTES: "1000" } });
  const body = grpcFrame(Buffer.alloc(500_000, "x"));
  const socket = connectTcp(port, "127.0.0.1");
  socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n`);
  socket.write(body.subarray(0, 100_000));
  const [first] = await once(socket, "data");
  socket.write(body.subarray(100_000));
  socket.write("GET /testing/echo/next HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  const rest: Buffer[] = await socket.toArray();
  expect(Buffer.concat([first, ...rest]).toString()).toContain('{"text":"next"}');
});

test("a call that is refused behind others on its connection leaves them alone, and is told so when its turn comes", async () => {
  const release = Promise.withResolvers<void>();
  const { port } = await openTestGateway({
    env: { PARLEY_GATEWAY_MAX_CALLS_PER_CLIENT: "1" },
    handlers: {
      echo: async ({ text }) => {
        await release.promise;
        return { text };
      },
    },
  });
  const socket = connectTcp(port, "127.0.0.1").setEncoding("utf8");
  socket.write("GET /testing/echo/first HTTP/1.1\r\nhost: x\r\n\r\n");
  socket.write("GET /testing/echo/second HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  setTimeout(release.resolve, 1_500); // longer than a refused body may take
  const answers = (await socket.toArray()).join("");
  expect(answers).toMatch(/^HTTP\/1\.1 200 .*"first".*HTTP\/1\.1 429 .*TOO_MANY_CALLS/s);
});

test("whoever sends a large body too many is told so, and not cut off", async () => {
  const { url, port } = await openTestGateway({ env: { PARLEY_GATEWAY_MAX_CALLS_PER_CLIENT: "1" } });
  const leave = new AbortController();
  const held = await fetch(`${url}/testing/repeat?count=1&ending.delay=60s`, { signal: leave.signal });
  for (let round = 0; round < 20; round++) {
    const response = await fetch(`http://127.0.0.1:${port}/testing/echo`, { method: "POST", body: "x".repeat(4_000_000) });
    expect([response.status, await response.json()]).toMatchObject([429, { details: [{ reason: "TOO_MANY_CALLS" }, {}] }]);
  }
  leave.abort();
  await held.text().catch(() => {});
});

test("a client of HTTP/2 loses no request when the gateway drains: it is told before any is refused", async () => {
  const { url, running } = await openTestGateway({ env: { PARLEY_DRAIN_TIMEOUT: "15s" } });
  const session = connectHttp2(url);
  const told: number[] = [];
  session.on("goaway", (_code, lastStreamId) => told.push(lastStreamId));
  const statuses: unknown[] = [];
  const ask = (): Promise<void> =>
    new Promise((resolve) => {
      const stream = session.request({ ":path": "/testing/echo/x" });
      stream.on("response", (headers) => statuses.push(headers[":status"])).on("error", (error) => statuses.push(error));
      stream.on("close", resolve).resume();
    });
  const worker = async (): Promise<void> => {
    while (!session.closed) await ask();
  };
  const working = Array.from({ length: 10 }, worker);
  await eventually(() => expect(statuses.length).toBeGreaterThan(100));
  await running.stop();
  await Promise.all(working);
  expect(told[0]).toBe(2 ** 31 - 1);
  expect(statuses.filter((status) => status !== 200)).toEqual([]);
});
