import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http2";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { promisify } from "node:util";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { Registry } from "prom-client";
import { expect, onTestFinished, test } from "vitest";
import type { echo } from "../testing/echo.ts";
import { eventually } from "../testing/eventually.ts";
import { failureOf } from "../testing/failure.ts";
import { openTestEcho, openTestTransport } from "../testing/rpc.ts";
import { testTelemetry } from "../testing/telemetry.ts";
import { openTransport } from "./transport.ts";

type EchoClient = Client<typeof EchoService>;

async function openServerOf(handlers: Partial<typeof echo> = {}) {
  return (await openTestEcho(handlers)).server;
}

function clientOf(...servers: { port: number }[]): EchoClient {
  return createClient(EchoService, openTestTransport(servers.map(({ port }) => port)));
}

/** An echo service, a client of it, and the client's metrics. */
async function openMeasured(handlers: Partial<typeof echo>) {
  const { port } = await openServerOf(handlers);
  const registry = new Registry();
  return { registry, client: createClient(EchoService, openTestTransport([port], { registry })) };
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

test("a method that may be repeated is tried five times while it is UNAVAILABLE; any other once", async () => {
  let attempts = 0;
  const failFourTimes = () => {
    if (++attempts < 5) throw new ConnectError("not now", Code.Unavailable);
    return { text: "at last" };
  };
  const client = clientOf(await openServerOf({ echo: failFourTimes, echoOnce: failFourTimes }));
  expect((await client.echo({})).text).toBe("at last");
  expect(attempts).toBe(5);
  attempts = 0;
  expect(await failureOf(client.echoOnce({}))).toMatchObject({ code: Code.Unavailable });
  expect(attempts).toBe(1);
});

test("a transport without retries tries once what may be repeated", async () => {
  let calls = 0;
  const { port } = await openServerOf({
    echo: () => {
      calls++;
      throw new ConnectError("away", Code.Unavailable);
    },
  });
  await failureOf(createClient(EchoService, openTestTransport([port], { retries: false })).echo({}));
  expect(calls).toBe(1);
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

test("a connection that the system cuts off is UNAVAILABLE", async ({ skip }) => {
  const arrived = Promise.withResolvers<void>();
  const server = await openServerOf({
    echoOnce: async (_, { signal }) => {
      arrived.resolve();
      await once(signal, "abort");
      return {};
    },
  });
  const ended = failureOf(clientOf(server).echoOnce({}));
  await arrived.promise;
  // As a firewall or an administrator does; as root, on kernels that can.
  const { stdout } = await promisify(execFile)("ss", ["-HK", "dst", "127.0.0.1", "dport", "=", `:${server.port}`]).catch(() => ({
    stdout: "",
  }));
  if (stdout === "") skip("ss cannot close connections here");
  expect(await ended).toMatchObject({ code: Code.Unavailable });
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

test("a call whose connection is lost in the midst of its answer is sent again where it may be repeated", async () => {
  const calls: unknown[] = [];
  const timeouts: number[] = [];
  const server = createServer();
  server.on("stream", (stream, headers) => {
    calls.push(headers[":path"]);
    timeouts.push(Number.parseInt(String(headers["grpc-timeout"]), 10));
    stream.on("error", () => {});
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.write(Buffer.from([0, 0, 0, 0, 3, 10, 1, 120]), () => {
      stream.session?.ping(() => stream.session?.destroy()); // when the client has it all, but for a status
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const client = clientOf({ port: (server.address() as AddressInfo).port });
  expect(await failureOf(client.echo({}))).toMatchObject({ code: Code.Unavailable });
  expect(await failureOf(client.echoOnce({}))).toMatchObject({ code: Code.Unavailable });
  const service = "/parley.testing.v1.EchoService";
  expect(calls).toEqual([...Array.from({ length: 5 }, () => `${service}/Echo`), `${service}/EchoOnce`]);
  expect(timeouts[1]).toBeLessThan(timeouts[0]!); // with what is left of its time
});

test("a deadline that is over is told in our words, and counted as what it is", async () => {
  const { registry, client } = await openMeasured({ echo: () => new Promise(() => {}) });
  const error = await failureOf(client.echo({}, { timeoutMs: 50 }));
  expect(error).toMatchObject({ code: Code.DeadlineExceeded, isWireError: true });
  expect(error.rawMessage).toBe("parley.testing.v1.EchoService.Echo did not answer within its deadline");
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "DEADLINE_EXCEEDED" }]);
  expect(await registry.metrics()).toMatch(/rpc_client_call_duration_seconds_count\{[^}]*rpc_response_status_code="DEADLINE_EXCEEDED"\} 1/);
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
  expect(await registry.metrics()).toMatch(/parley_rpc_client_active_calls\{[^}]*\} 1/);
  controller.abort();
  await ended.promise;
  expect(await registry.metrics()).toMatch(/parley_rpc_client_active_calls\{[^}]*\} 0/);
});

test("a stream without a deadline to a server that is frozen is UNAVAILABLE when the time to connect is over", async () => {
  const frozen = createTcpServer(() => {}).listen(0, "127.0.0.1");
  await once(frozen, "listening");
  onTestFinished(() => void frozen.close());
  const { port } = frozen.address() as AddressInfo;
  const transport = openTransport({
    target: `ipv4:127.0.0.1:${port}`,
    contracts: [EchoService],
    peerName: "frozen",
    telemetry: testTelemetry(),
    maxMessageBytes: 1024,
    connectTimeoutMs: 300,
  });
  onTestFinished(() => transport.close());
  const error = await failureOf(Array.fromAsync(createClient(EchoService, transport).repeat({ count: 1 })));
  expect(error).toMatchObject({ code: Code.Unavailable, rawMessage: "parley.testing.v1.EchoService cannot be reached; try again" });
});
