import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { testAuth } from "@parley/chassis/testing/auth.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@parley/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "@parley/gen/grpc/reflection/v1/reflection_pb.js";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { expect, onTestFinished, test } from "vitest";
import { services } from "../services/all.ts";
import { runScript } from "./run-script.ts";
import { partPids, startSuite } from "./suite.ts";

const root = join(import.meta.dirname, "..");

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("it says what runs where, and two commands to try", async () => {
  const suite = await startSuite();
  const shown = suite.lines.join("\n");
  expect(shown).toContain(`curl ${suite.gatewayUrl}/api/hello`);
  expect(shown).toMatch(new RegExp(`greeter +${suite.grpcAddress}`));
  expect(shown).toMatch(new RegExp(`admin +${suite.adminUrl}`));
  expect(await suite.stop()).toBe(0);
});

test("the admin port tells that it lives, whether it is ready, and its metrics", async () => {
  const suite = await startSuite({ env: { PARLEY_DRAIN_DELAY: "2s" } });
  await fetch(`${suite.gatewayUrl}/api/hello`);
  expect((await fetch(`${suite.adminUrl}/livez`)).status).toBe(200);
  expect((await fetch(`${suite.adminUrl}/readyz`)).status).toBe(200);
  expect((await fetch(`${suite.adminUrl}/nothing`)).status).toBe(404);
  expect((await fetch(`${suite.adminUrl}/livez`, { method: "POST" })).status).toBe(405);
  const metrics = await (await fetch(`${suite.adminUrl}/metrics`)).text();
  const method = 'rpc_method="parley.greeter.v1.GreeterService/Hello"';
  for (const labels of [`service_name="greeter",${method}`, `service_name="gateway",${method}`]) {
    expect(metrics).toContain(`rpc_server_call_duration_seconds_count{${labels},rpc_response_status_code="OK"} 1`);
    expect(metrics).toContain(`parley_rpc_server_active_calls{${labels}} 0`);
  }
  expect(metrics).toContain(
    `rpc_client_call_duration_seconds_count{service_name="gateway",service_peer_name="greeter",${method},rpc_response_status_code="OK"} 1`,
  );
  const stopped = suite.stop();
  await eventually(async () => expect((await fetch(`${suite.adminUrl}/readyz`)).status).toBe(503));
  expect((await fetch(`${suite.adminUrl}/livez`)).status).toBe(200);
  const health = createClient(Health, createGrpcTransport({ baseUrl: `http://${suite.grpcAddress}` }));
  expect(await health.check({ service: "parley.greeter.v1.GreeterService" })).toMatchObject({ status: ServingStatus.NOT_SERVING });
  const answer = await fetch(`${suite.gatewayUrl}/api/hello`);
  expect([answer.status, answer.headers.get("connection")]).toEqual([200, "close"]); // calls are still taken
  expect(await stopped).toBe(0);
});

test("no unary call that was accepted is dropped when it stops under load", async () => {
  const suite = await startSuite();
  // Without the contract the transport repeats nothing but what gRPC knows to be safe: streams that the server refused.
  const [grpc, gateway] = [suite.grpcAddress, suite.gatewayUrl.replace("http://", "")].map((address) => {
    const transport = openTestTransport([address], { retries: false });
    return createClient(GreeterService, transport);
  });
  const wrong: unknown[] = [];
  const answered = { service: 0, gateway: 0 };
  const load = async (side: keyof typeof answered, call: () => Promise<unknown>): Promise<void> => {
    for (;;) {
      try {
        await call();
        answered[side]++;
      } catch (error) {
        // A call that never got a connection, or whose server said UNAVAILABLE, was not accepted.
        if (error instanceof ConnectError ? error.code !== Code.Unavailable : !isRefused(error)) wrong.push(error);
        return;
      }
    }
  };
  const rest = async (): Promise<void> => {
    const response = await fetch(`${suite.gatewayUrl}/api/hello`);
    if (!response.ok || (await response.text()) !== '{"message":"Hello, Microservice!"}') throw new Error(`status ${response.status}`);
  };
  const loads = Array.from({ length: 8 }).flatMap(() => [
    load("service", () => grpc!.hello({})),
    load("gateway", () => gateway!.hello({})),
    load("gateway", rest),
  ]);
  await eventually(() => expect(answered.service + answered.gateway).toBeGreaterThan(500));
  expect(await suite.stop()).toBe(0);
  await Promise.all(loads);
  expect(wrong).toEqual([]);
  // Every call that was carried out was answered to its caller.
  const done = (service: string) =>
    suite.lines.filter((line) => line.includes(`"service.name":"${service}"`) && line.includes('"rpc.response.status_code":"OK"')).length;
  expect(done("gateway")).toBe(answered.gateway);
  expect(done("greeter")).toBe(answered.gateway + answered.service);
});

test("a request that comes on a kept-alive connection while it stops is answered, and is the connection's last", async () => {
  const suite = await startSuite();
  const socket = connect(Number(new URL(suite.gatewayUrl).port), "127.0.0.1");
  let received = "";
  socket.on("data", (chunk) => (received += chunk));
  const request = "GET /api/hello HTTP/1.1\r\nhost: x\r\n\r\n";
  socket.write(request);
  await eventually(() => expect(received).toContain("Microservice"));
  received = "";
  const stopped = suite.stop();
  await eventually(() => expect(suite.lines.join()).toContain("draining"));
  socket.write(request);
  await once(socket, "close");
  expect(received).toMatch(/^HTTP\/1.1 200 OK\r\n.*connection: close\r\n.*Microservice/is);
  expect(await stopped).toBe(0);
});

test("streams end with UNAVAILABLE when it stops, so that clients come back", async () => {
  const suite = await startSuite();
  const streams = [suite.gatewayUrl, `http://${suite.grpcAddress}`].map((baseUrl) => {
    const client = createClient(GreeterService, createGrpcTransport({ baseUrl }));
    return client.helloStream({ names: ["Ada"], count: 100, interval: { seconds: 1n } })[Symbol.asyncIterator]();
  });
  for (const stream of streams) expect((await stream.next()).value?.message).toBe("Hello, Ada!");
  const names = ["the gateway", "the server"];
  const ends = streams.map((stream, index) =>
    expect(Array.fromAsync({ [Symbol.asyncIterator]: () => stream })).rejects.toMatchObject({
      code: Code.Unavailable,
      rawMessage: `${names[index]} is stopping; try again`,
    }),
  );
  expect(await suite.stop()).toBe(0);
  await Promise.all(ends);
});

test("reflection can be turned off; health stays", async () => {
  const suite = await startSuite({ env: { PARLEY_REFLECTION: "off" } });
  const transport = createGrpcTransport({ baseUrl: `http://${suite.grpcAddress}` });
  async function* requests() {
    yield { messageRequest: { case: "listServices", value: "" } } as const;
  }
  const answers = Array.fromAsync(createClient(ServerReflection, transport).serverReflectionInfo(requests()));
  await expect(answers).rejects.toMatchObject({ code: Code.Unimplemented });
  expect(await createClient(Health, transport).check({})).toMatchObject({ status: ServingStatus.SERVING });
  expect(await suite.stop()).toBe(0);
});

test("a second signal ends it at once", async () => {
  const suite = await startSuite({ env: { PARLEY_DRAIN_DELAY: "10m" } });
  const stopped = suite.stop();
  await eventually(() => expect(suite.lines.join()).toContain("draining"));
  // One that comes at once with the first is taken for the same: a terminal and npm both send Ctrl-C.
  suite.process.kill("SIGINT");
  await eventually(() => {
    suite.process.kill("SIGTERM");
    expect(suite.process.exitCode).toBe(1);
  });
  expect(await stopped).toBe(1);
});

test.each(["PARLEY_GATEWAY_PORT", "PARLEY_GRPC_BASE_PORT", "PARLEY_ADMIN_BASE_PORT"])(
  "a port in use is told with its variable: %s",
  async (variable) => {
    const port = await findFreePorts(20);
    const ports = { PARLEY_GATEWAY_PORT: `${port}`, PARLEY_GRPC_BASE_PORT: `${port + 1}`, PARLEY_ADMIN_BASE_PORT: `${port + 10}` };
    const taken = Number(ports[variable as keyof typeof ports]);
    const other = createServer().listen(taken, "127.0.0.1");
    await once(other, "listening");
    onTestFinished(() => void other.close());
    const { code, errors } = await runScript("tools/start.ts", ports);
    expect(code).toBe(1);
    expect(errors).toBe(`port ${taken} is in use: stop what uses it, or set ${variable} to another port\n`);
  },
);

test("wrong variables are told all at once, a line each", async () => {
  const { code, errors } = await runScript("tools/start.ts", {
    PARLEY_GATEWAY_PORT: "http",
    PARLEY_DRAIN_TIMEOUT: "15",
    PARLEY_LOG_LEVEL: "loud",
    PARLEY_CORS_ORIGINS: "https://shop.example/cart",
  });
  expect(code).toBe(1);
  expect(errors.trimEnd().split("\n").toSorted()).toEqual([
    'PARLEY_CORS_ORIGINS: "https://shop.example/cart" is wrong; expected origins such as http://localhost:5173, separated by commas',
    'PARLEY_DRAIN_TIMEOUT: "15" is wrong; expected a duration such as 500ms, 15s or 5m, more than 0 and at most 24 days',
    'PARLEY_GATEWAY_PORT: "http" is wrong; expected a port, 1 to 65535',
    'PARLEY_LOG_LEVEL: "loud" is wrong; expected trace, debug, info, warn, error or silent',
  ]);
});

test("arguments that it does not know are refused, and variables that it does not know are told", async () => {
  const { code, errors } = await runScript("tools/start.ts", {}, "--splitt");
  expect(code).toBe(1);
  const usage = "usage: npm start [-- --split [--replicas orders=2,payments=2]]\n";
  expect(errors).toMatch(/^Unknown option '--splitt'/);
  expect(errors.endsWith(usage)).toBe(true);
  for (const args of [
    ["--replicas", "orders=2"],
    ["--split", "--replicas", "orders"],
    ["--split", "--replicas", "nobody=2"],
  ])
    expect(await runScript("tools/start.ts", {}, ...args)).toMatchObject({ code: 1, errors: expect.stringContaining(usage) });
  const suite = await startSuite({ env: { PARLEY_CORS_ORIGIN: "http://localhost:5173" } });
  expect(suite.errors).toEqual(["PARLEY_CORS_ORIGIN is no variable of the suite: npm run config lists them"]);
  expect(await suite.stop()).toBe(0);
});

test("wrong variables are told with --split too", async () => {
  expect(await runScript("tools/start.ts", { PARLEY_DRAIN_TIMEOUT: "15" }, "--split")).toEqual({
    code: 1,
    errors: 'PARLEY_DRAIN_TIMEOUT: "15" is wrong; expected a duration such as 500ms, 15s or 5m, more than 0 and at most 24 days\n',
  });
});

test("a gateway on its own is told which service it cannot find", async () => {
  const { code, errors } = await runScript("gateway/main.ts", {});
  expect(code).toBe(1);
  expect(errors.trimEnd().split("\n")).toHaveLength(Object.keys(services).length);
  expect(errors).toContain("PARLEY_GREETER_TARGET: is not set; expected a gRPC target such as dns:///greeter:50051\n");
});

test("a gateway on its own opens the services that it is told to", async () => {
  expect(await runScript("gateway/main.ts", {}, "greeter")).toEqual({
    code: 1,
    errors: "PARLEY_GREETER_TARGET: is not set; expected a gRPC target such as dns:///greeter:50051\n",
  });
  expect(await runScript("gateway/main.ts", {}, "greter")).toMatchObject({
    code: 1,
    errors: expect.stringMatching(/^there is no service greter; there are greeter, /),
  });
});

test("a container's first process ends at a signal also while its modules are being loaded", async () => {
  const preload = join(root, "chassis/first-process.ts");
  const child = spawn(process.execPath, ["--import", preload, "--eval", "process.stdout.write('loading'); setInterval(() => {}, 1_000)"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child.stdout, "data");
  child.kill("SIGTERM");
  expect(await once(child, "exit")).toEqual([143, null]); // by a handler: it would not feel the signal
});

test("what a process may be asked for by a signal does not end it, nor open a debugger, while its modules are being loaded", async () => {
  const preload = join(root, "chassis/first-process.ts");
  const child = spawn(
    process.execPath,
    ["--import", preload, "--eval", "process.stdout.write('loading'); process.stdin.on('data', () => process.exit(7))"],
    { stdio: ["pipe", "pipe", "pipe"] },
  );
  onTestFinished(() => void child.kill("SIGKILL"));
  let errors = "";
  child.stderr.on("data", (chunk) => (errors += chunk));
  await once(child.stdout, "data");
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const) child.kill(signal);
  child.stdin.write("end");
  expect(await once(child, "close")).toEqual([7, null]);
  expect(errors).toBe("");
});

test("a service that cannot make keys says which variables it needs instead", async () => {
  const { code, errors } = await runScript("services/greeter/main.ts", {
    PARLEY_DATA_DIR: "/dev/null/parley",
    PARLEY_GREETER_KEY_FILE: "/key",
  });
  expect(code).toBe(1);
  expect(errors).toMatch(
    /^PARLEY_DATA_DIR: \/dev\/null\/parley cannot be made \(.*\): set it to a folder that can be written, or set PARLEY_AUTH_JWKS_URL, PARLEY_AUTH_SERVICE_JWKS_URL\n$/,
  );
});

test("a service that waits for its database stops when it is told to", async () => {
  const basePort = await findFreePorts(3);
  const child = spawn(process.execPath, [join(root, "services/catalog/main.ts")], {
    env: {
      ...process.env,
      PARLEY_DATA_DIR: (await testAuth()).dataDir,
      PARLEY_CATALOG_DATABASE_URL: `postgres://catalog:x@127.0.0.1:${basePort + 2}/catalog`,
      PARLEY_GRPC_BASE_PORT: String(basePort),
      PARLEY_ADMIN_BASE_PORT: String(basePort + 1),
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  expect(line).toMatch(/the database cannot be reached \(.*ECONNREFUSED.*\); trying again/);
  child.kill("SIGTERM");
  expect(await once(child, "exit")).toEqual([0, null]); // not by the signal, which the first process of a container would not feel
});

test("with --split each part is a process of its own, started again when it dies, as it was told to log, and none is left behind", async () => {
  const suite = await startSuite({ args: ["--split"] });
  const pids = await partPids(suite);
  expect(pids).toHaveLength(Object.keys(services).length + 1);
  expect(await (await fetch(`${suite.gatewayUrl}/api/hello`)).json()).toEqual({ message: "Hello, Microservice!" });
  const told = () => suite.lines.filter((line) => line.includes("the level of the log has changed"));
  suite.process.kill("SIGUSR2");
  await eventually(() => expect(told()).toHaveLength(pids.length));
  process.kill(pids[0]!, "SIGKILL");
  await eventually(() => expect(suite.lines.join()).toContain("the process ended; it is started again"));
  await eventually(async () => expect((await fetch(`${suite.gatewayUrl}/api/hello`)).status).toBe(200));
  await eventually(() => expect(told()).toHaveLength(pids.length + 1));
  expect(told().every((line) => line.includes('"level":"debug"'))).toBe(true);
  const all = [...pids, ...(await partPids(suite))];
  expect(await suite.stop()).toBe(0);
  expect(all.filter(isRunning)).toEqual([]);
});

test("with --split a part that is frozen does not keep the rest from stopping", async () => {
  const suite = await startSuite({ args: ["--split"], env: { PARLEY_DRAIN_TIMEOUT: "100ms" } });
  const pids = await partPids(suite);
  process.kill(pids[0]!, "SIGSTOP");
  expect(await suite.stop()).toBe(0);
  expect(pids.filter(isRunning)).toEqual([]);
});

test("what is in progress when the time to drain is over ends with UNAVAILABLE, on every hop", async () => {
  const suite = await startSuite({ env: { PARLEY_DRAIN_TIMEOUT: "100ms" } });
  // Readers that read nothing, so that their answers cannot be delivered.
  const stalled = [suite.gatewayUrl, `http://${suite.grpcAddress}`].map((url) => {
    const session = connectHttp2(url, { settings: { initialWindowSize: 0 } });
    session.on("error", () => {});
    const stream = session.request({
      ":method": "POST",
      ":path": "/parley.greeter.v1.GreeterService/Hello",
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.on("error", () => {}).end(Buffer.alloc(5));
    return once(stream, "response");
  });
  await Promise.all(stalled);
  expect(await suite.stop()).toBe(0);
});

test("with --split the parts end when their parent is killed", async () => {
  const suite = await startSuite({ args: ["--split"] });
  const pids = await partPids(suite);
  suite.process.kill("SIGKILL");
  await eventually(() => expect(pids.filter(isRunning)).toEqual([]));
});

test("with --split a port in use stops all", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  onTestFinished(() => void other.close());
  const address = other.address();
  const port = typeof address === "object" ? address?.port : undefined;
  await expect(startSuite({ args: ["--split"], env: { PARLEY_GATEWAY_PORT: String(port) } })).rejects.toThrow(
    `port ${port} is in use: stop what uses it, or set PARLEY_GATEWAY_PORT`,
  );
});

function isRefused(error: unknown): boolean {
  return error instanceof TypeError && String(error.cause).includes("ECONNREFUSED");
}
