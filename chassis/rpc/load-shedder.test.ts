import { Code, createClient } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { testAuth } from "../testing/auth.ts";
import { echo } from "../testing/echo.ts";
import { eventually, standstill } from "../testing/eventually.ts";
import { failureOf } from "../testing/failure.ts";
import { openTestServer, openTestTransport } from "../testing/rpc.ts";
import { testTelemetry } from "../testing/telemetry.ts";
import { implement } from "./implement.ts";
import { serverInterceptors } from "./interceptors/all.ts";
import { loadShedding } from "./interceptors/load-shedding.ts";
import { createLoadShedder } from "./load-shedder.ts";

/** A server whose event loop is late when the test says so, and whose calls wait until the test lets them go. */
async function openBusy() {
  let tellLate: (ms: number) => void = () => {};
  const telemetry = testTelemetry();
  const shedder = createLoadShedder(telemetry, {
    onLook(callback) {
      tellLate = callback;
    },
    stop: () => {},
  });
  const { authenticate } = await testAuth();
  const go = Promise.withResolvers<void>();
  let waiting = 0;
  const hold = async () => {
    waiting++;
    await go.promise;
    return {};
  };
  const handlers = { ...echo, echo: hold, echoCritical: hold, echoHedged: hold };
  const server = await openTestServer([implement(EchoService, handlers)], {
    interceptors: serverInterceptors({ telemetry, shed: loadShedding(shedder), authenticate }),
  });
  const client = createClient(EchoService, openTestTransport([server.port], { retries: false }));
  return { client, go, telemetry, tellLate: (ms: number) => tellLate(ms), waiting: () => waiting };
}

test("a service with more to do than it can refuses sheddable calls at once, with a delay, and takes critical ones", async () => {
  const { client, go, telemetry, tellLate, waiting } = await openBusy();
  const calls = Array.from({ length: 200 }, () => client.echo({}));
  await standstill(waiting);
  tellLate(10_000);
  tellLate(10_000);
  const error = await failureOf(client.echoHedged({}));
  expect(error.code).toBe(Code.ResourceExhausted);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "OVERLOADED" }]);
  expect(error.findDetails(RetryInfoSchema)[0]?.retryDelay).toBeDefined();
  const delayMs = Number(error.metadata.get("grpc-retry-pushback-ms"));
  expect(delayMs).toBeGreaterThanOrEqual(500);
  expect((await failureOf(client.echo({}))).code).toBe(Code.ResourceExhausted);
  const critical = client.echoCritical({});
  await eventually(() => expect(waiting()).toBe(201)); // it was let in, though the others are still there
  go.resolve();
  await Promise.all([...calls, critical]);
  expect(await telemetry.registry.metrics()).toContain('parley_rpc_server_shed_calls_total{service_name="test",criticality="sheddable"} 1');
});

test("what is called for a critical call is critical", async () => {
  const { client, go, tellLate, waiting } = await openBusy();
  const calls = Array.from({ length: 200 }, () => client.echo({}));
  await standstill(waiting);
  tellLate(10_000);
  tellLate(10_000);
  const inherited = client.echoHedged({}, { headers: { "x-parley-criticality": "critical" } });
  await eventually(() => expect(waiting()).toBe(201));
  go.resolve();
  await Promise.all([...calls, inherited]);
});
