import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { testAuth } from "@parley/chassis/testing/auth.ts";
import { makeDataDir } from "@parley/chassis/testing/data-dir.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { expect, onTestFinished, test } from "vitest";
import { runScript } from "./run-script.ts";
import { startSuite } from "./suite.ts";

const greeter = join(import.meta.dirname, "../services/greeter/main.ts");

test("logs that do not go to a terminal are JSON, one line for each call on each hop, under one id", async () => {
  const suite = await startSuite();
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
  await fetch(`${suite.gatewayUrl}/api/hello`, { headers: { "x-request-id": "log-1", traceparent: `00-${traceId}-00f067aa0ba902b7-01` } });
  await suite.stop();
  const calls = suite.lines.filter((line) => /"body":"(call|request)"/.test(line)).map((line) => JSON.parse(line));
  for (const service of ["greeter", "gateway"]) {
    expect(calls.filter((call) => call["service.name"] === service)).toMatchObject([
      {
        severity_text: "INFO",
        "rpc.method": "parley.greeter.v1.GreeterService/Hello",
        "rpc.response.status_code": "OK",
        request_id: "log-1",
        trace_id: traceId,
        "client.address": expect.stringContaining("127.0.0.1"),
        duration_ms: expect.any(Number),
      },
    ]);
  }
});

test.skipIf(!existsSync("/dev/full"))("it serves while the disk of its log is full, and still stops", async () => {
  const basePort = await findFreePorts(2);
  const full = openSync("/dev/full", "w");
  const child = spawn(process.execPath, [greeter], {
    env: { ...process.env, PARLEY_GRPC_BASE_PORT: String(basePort), PARLEY_ADMIN_BASE_PORT: String(basePort + 1) },
    stdio: ["ignore", full, "inherit", "ipc"],
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
    closeSync(full);
  });
  await once(child, "message");
  const transport = openTestTransport([basePort], { retries: false });
  for (let call = 0; call < 10; call++) await createClient(GreeterService, transport).hello({});
  child.kill("SIGTERM");
  expect(await once(child, "exit")).toEqual([0, null]);
});

test("what it logs last when it crashes under load is on its output and in the kept file, behind what was cut off before", async () => {
  const basePort = await findFreePorts(2);
  const { dataDir } = await testAuth();
  const directory = join(makeDataDir(), "logs");
  const crash = `data:text/javascript,${encodeURIComponent('process.on("SIGPROF", () => { throw new Error("boom"); });')}`;
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `greeter-${basePort}.1.jsonl`);
  writeFileSync(file, '{"body":"torn');
  const child = spawn(process.execPath, ["--import", crash, greeter], {
    env: {
      ...process.env,
      PARLEY_DATA_DIR: dataDir,
      PARLEY_LOG_DIR: directory,
      PARLEY_GRPC_BASE_PORT: String(basePort),
      PARLEY_ADMIN_BASE_PORT: String(basePort + 1),
    },
    stdio: ["ignore", "pipe", "inherit", "ipc"],
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
    rmSync(directory, { recursive: true });
  });
  let output = "";
  child.stdout?.on("data", (chunk) => (output += chunk));
  await once(child, "message");
  const client = createClient(GreeterService, openTestTransport([basePort], { retries: false }));
  let calls = 0;
  const call = async (): Promise<never> => {
    for (;;) {
      await client.hello({});
      calls++;
    }
  };
  const calling = Promise.allSettled(Array.from({ length: 16 }, call));
  await eventually(() => expect(calls).toBeGreaterThan(500));
  child.kill("SIGPROF");
  expect(await once(child, "close")).toEqual([1, null]);
  await calling;
  expect(output.trimEnd().split("\n").at(-1)).toContain("uncaught exception");
  const [torn, ...lines] = readFileSync(file, "utf8").trimEnd().split("\n");
  expect(torn).toBe('{"body":"torn');
  expect(lines.map((line) => JSON.parse(line)).at(-1)).toMatchObject({ body: "uncaught exception", "exception.message": "boom" });
});

test("a folder in which no log can be kept is told", async () => {
  const { code, errors } = await runScript("services/greeter/main.ts", { PARLEY_LOG_DIR: "/dev/null/x" });
  expect(code).toBe(1);
  expect(errors).toMatch(/^PARLEY_LOG_DIR: no log can be kept in \/dev\/null\/x \(.*\): set it to a folder that can be written\n$/);
});

test("it goes on when nobody reads its output any more, and still stops", async () => {
  const suite = await startSuite();
  suite.process.stdout?.destroy();
  for (let call = 0; call < 10; call++) expect((await fetch(`${suite.gatewayUrl}/api/hello`)).status).toBe(200);
  expect(await suite.stop()).toBe(0);
});
