import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError, createClient, type ServiceImpl } from "@connectrpc/connect";
import { experimental } from "@grpc/grpc-js";
import { ErrorInfoSchema, RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import { asService } from "../testing/auth.ts";
import type { echo } from "../testing/echo.ts";
import { eventually } from "../testing/eventually.ts";
import { failureOf, reasonOf } from "../testing/failure.ts";
import { createTestLog, openTestChain, openTestEcho, openTestServer, openTestTransport } from "../testing/rpc.ts";
import { fail, retryAfter } from "./errors.ts";
import { implement } from "./implement.ts";
import { serviceConfig } from "./service-config.ts";

const unavailable = new ConnectError("not now", Code.Unavailable);

/** Replicas of an echo service, a client of them all, its metrics and its log. */
async function openReplicas(...handlers: Partial<typeof echo>[]) {
  const servers = await Promise.all(handlers.map((one) => openTestEcho(one)));
  const registry = new Registry();
  const { log, logs } = createTestLog();
  const ports = servers.map(({ server }) => server.port);
  const client = createClient(EchoService, openTestTransport(ports, { registry, log }));
  /** The value of a metric, summed over its labels. */
  const metricOf = async (name: string): Promise<number> => {
    const metric = await registry.getSingleMetric(name)?.get();
    return metric?.values.reduce((sum, { value }) => sum + value, 0) ?? 0;
  };
  return { client, metricOf, logs, ports };
}

test("retries are counted, and so are those that the budget withheld", async () => {
  const { client, metricOf } = await openReplicas({ echo: () => Promise.reject(unavailable) });
  for (let call = 0; call < 15; call++) await failureOf(client.echo({}));
  expect(await metricOf("parley_rpc_client_retries_total")).toBe(10);
  expect(await metricOf("parley_rpc_client_retries_withheld_total")).toBeGreaterThan(0);
});

test("a stream that may be repeated is begun again while nothing of it has come, and not after that", async () => {
  const asked: bigint[] = [];
  const read: ServiceImpl<typeof EventLogService>["read"] = async function* ({ afterPosition }) {
    asked.push(afterPosition);
    if (asked.length < 3) throw unavailable;
    yield {};
    throw unavailable;
  };
  const { port } = await openTestServer([implement(EventLogService, { read })]);
  const client = createClient(EventLogService, openTestTransport([port]));
  const failure = await failureOf(Array.fromAsync(client.read({ afterPosition: 7n }, await asService())));
  expect(failure.code).toBe(Code.Unavailable);
  expect(asked).toEqual([7n, 7n, 7n]);
});

test("a server that says when to come again is tried again then", async () => {
  const times: number[] = [];
  const { client } = await openReplicas({
    echo() {
      times.push(performance.now());
      if (times.length > 1) return {};
      throw new ConnectError("busy", Code.Unavailable, undefined, [retryAfter(300)]);
    },
  });
  await client.echo({});
  expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(299);
});

test("what a neighbour failed of is not tried again by whoever called its caller", async () => {
  let [callsOfA, callsOfB] = [0, 0];
  const { client } = await openTestChain(
    (b) => {
      callsOfA++;
      return b.echo({});
    },
    () => {
      callsOfB++;
      throw unavailable;
    },
  );
  const error = await failureOf(client.echo({}));
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "NEIGHBOUR_UNAVAILABLE" }]);
  expect([callsOfA, callsOfB]).toEqual([1, 5]);
});

test("a call that is hedged is answered by the other replica where the first takes its time, which is cancelled", async () => {
  const cancelled = Promise.withResolvers<void>();
  let calls = 0;
  const slowAtFirst: (typeof echo)["echoHedged"] = async (_, { signal }) => {
    if (++calls > 1) return { text: "quick" };
    await once(signal, "abort");
    cancelled.resolve();
    return { text: "slow" };
  };
  const { client, metricOf } = await openReplicas({ echoHedged: slowAtFirst }, { echoHedged: slowAtFirst });
  expect((await client.echoHedged({})).text).toBe("quick");
  await cancelled.promise;
  expect(await metricOf("parley_rpc_client_retries_total")).toBe(1);
});

test("hedges of a target that is slow are a tenth of the calls at most, beyond the first four", async () => {
  let calls = 0;
  const { client } = await openReplicas({
    async echoHedged() {
      calls++;
      await delay(40);
      return {};
    },
  });
  for (let round = 0; round < 5; round++) await Promise.all(Array.from({ length: 20 }, () => client.echoHedged({})));
  expect(calls).toBeLessThanOrEqual(115);
});

test("a call that is hedged and fails is retried as others are", async () => {
  let calls = 0;
  const { client } = await openReplicas({
    async echoHedged({ text }) {
      if (++calls < 3) throw unavailable;
      return { text };
    },
  });
  expect((await client.echoHedged({ text: "at last" })).text).toBe("at last");
});

test("a method that keeps failing is cut off with CIRCUIT_OPEN and a delay, other methods are not, and it comes back by itself", async () => {
  let isBroken = true;
  let calls = 0;
  const { client, metricOf, logs } = await openReplicas({
    echoOnce() {
      calls++;
      if (isBroken) throw new ConnectError("broken", Code.Internal);
      return {};
    },
  });
  for (let call = 0; call < 20; call++) await failureOf(client.echoOnce({}));
  expect(calls).toBe(20);
  const error = await failureOf(client.echoOnce({}));
  expect(calls).toBe(20);
  expect(error.code).toBe(Code.Unavailable);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "CIRCUIT_OPEN" }]);
  expect(error.findDetails(RetryInfoSchema)[0]?.retryDelay).toBeDefined();
  await client.echo({});
  expect(await metricOf("parley_rpc_client_breaker_state")).toBe(2);
  isBroken = false;
  await eventually(() => client.echoOnce({}));
  await eventually(async () => {
    await client.echoOnce({});
    expect(await metricOf("parley_rpc_client_breaker_state")).toBe(0);
  });
  const changes = logs.map(({ body }) => body).filter((text) => String(text).startsWith("the breaker is"));
  expect(changes).toEqual(["the breaker is open", "the breaker is half-open", "the breaker is closed"]);
});

test("a method is not cut off for what its service needs, and says cannot be had", async () => {
  const { client, metricOf } = await openReplicas({
    echoOnce() {
      throw fail(ErrorReason.NEIGHBOUR_UNAVAILABLE, "another one is away");
    },
  });
  for (let call = 0; call < 50; call++) await failureOf(client.echoOnce({}));
  expect(await metricOf("parley_rpc_client_breaker_state")).toBe(0);
});

test("a breaker that is open takes no part in retries: its caller learns of it at once", async () => {
  const { client } = await openReplicas({ echo: () => Promise.reject(unavailable) });
  await Promise.all(Array.from({ length: 40 }, () => failureOf(client.echo({}))));
  expect(await reasonOf(client.echo({}))).toEqual([Code.Unavailable, "CIRCUIT_OPEN"]);
});

test.each([Code.NotFound, Code.FailedPrecondition, Code.InvalidArgument, Code.PermissionDenied, Code.Aborted])(
  "refusals with code %i open no breaker",
  async (code) => {
    const { client } = await openReplicas({ echoOnce: () => Promise.reject(new ConnectError("no", code)) });
    for (let call = 0; call < 40; call++) expect((await failureOf(client.echoOnce({}))).code).toBe(code);
  },
);

test("callers that give too little time, or give up, cut off nobody", async () => {
  const { client } = await openReplicas({ echo: async (_, { signal }) => once(signal, "abort").then(() => ({})) });
  const calls = Array.from({ length: 40 }, (_, index) =>
    failureOf(index % 2 === 0 ? client.echo({}, { timeoutMs: 20 }) : client.echo({}, { signal: AbortSignal.timeout(20) })),
  );
  await Promise.all(calls);
  expect((await failureOf(client.echo({}, { timeoutMs: 20 }))).code).toBe(Code.DeadlineExceeded);
});

test("one bad replica of two is ejected, and the others answer alone", async () => {
  let badCalls = 0;
  const { client } = await openReplicas(
    {
      echoOnce: () => {
        badCalls++;
        throw new ConnectError("bad", Code.Internal);
      },
    },
    {},
  );
  await eventually(async () => {
    const before = badCalls;
    const outcomes = await Promise.allSettled(Array.from({ length: 40 }, () => client.echoOnce({})));
    expect(outcomes.filter(({ status }) => status === "rejected")).toEqual([]);
    expect(badCalls).toBe(before);
  });
});

test("a replica that refuses what it is asked for is not ejected", async () => {
  const calls = [0, 0];
  const refuse = (index: number) => ({
    echoOnce: () => {
      calls[index]!++;
      throw new ConnectError("there is none", Code.NotFound);
    },
  });
  const { client } = await openReplicas(refuse(0), refuse(1));
  const untilMs = performance.now() + 2_500; // two of outlier detection's intervals
  while (performance.now() < untilMs) await Promise.all(Array.from({ length: 20 }, () => failureOf(client.echoOnce({}))));
  calls.fill(0);
  for (let call = 0; call < 20; call++) await failureOf(client.echoOnce({}));
  expect(calls).toEqual([10, 10]);
});

test("the policies of a channel are those that are meant: gRPC takes none of a configuration that is wrong, and says nothing", () => {
  const [meant] = serviceConfig.loadBalancingConfig;
  expect(experimental.parseLoadBalancingConfig(meant!).toJsonObject()).toMatchObject(meant!);
});
