import { randomInt } from "node:crypto";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { expect, test } from "vitest";
import { startSuite } from "./suite.ts";

const calls = 10_000;
const atOnce = 100;

/** Mulberry32 (public domain, T. Ettinger): the same numbers, 0 to 1, for the same seed. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Why others' calls may fail meanwhile. */
const refusals = ["OVERLOADED", "CIRCUIT_OPEN"];

test(`${calls} calls that are cancelled at random leave nothing behind, and fail no call of others`, { timeout: 120_000 }, async ({
  annotate,
}) => {
  const seed = randomInt(2 ** 31);
  await annotate(`seed ${seed}`);
  const random = createRandom(seed);
  const suite = await startSuite({ env: { PARLEY_LOG_LEVEL: "warn" } });
  const addresses = [suite.grpcAddress, suite.gatewayUrl.replace("http://", "")];
  const cancelling = addresses.map(openClient);
  const others = addresses.map(openClient);
  const outcomes = new Map<string, number>();
  let done = false;

  const cancelOne = async (): Promise<void> => {
    const client = cancelling[random() < 0.5 ? 0 : 1]!;
    const controller = new AbortController();
    const { signal } = controller;
    // Before it is sent, while it is on its way, in the midst of its answers, or when it is over.
    const turns = Math.floor(random() ** 2 * 1_000);
    const call =
      random() < 0.5 ? client.hello({}, { signal }) : Array.fromAsync(client.helloStream({ names: ["Ada"], count: 20 }, { signal }));
    let outcome = "";
    const ended = call.then(
      () => (outcome = "OK"),
      (error: unknown) => (outcome = error instanceof ConnectError ? Code[error.code] : String(error)),
    );
    for (let turn = 0; turn < turns && outcome === ""; turn++) await new Promise(setImmediate);
    controller.abort();
    await ended;
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  };
  let started = 0;
  const cancelMany = async (): Promise<void> => {
    while (started++ < calls) await cancelOne();
  };
  const callOthers = Promise.all(
    others.map(async (client) => {
      for (; !done; await new Promise(setImmediate)) {
        // So many calls are more than the gateway can do, and what it refuses it refuses to everybody.
        const answer = await client.hello({}, { timeoutMs: 30_000 }).catch((error: unknown) => ConnectError.from(error));
        if (answer instanceof ConnectError) expect(refusals).toContain(answer.findDetails(ErrorInfoSchema)[0]?.reason);
        else expect(answer.message).toBe("Hello, Microservice!");
      }
    }),
  );
  await Promise.race([Promise.all(Array.from({ length: atOnce }, cancelMany)), callOthers]);
  done = true;
  await callOthers;

  await annotate(JSON.stringify(Object.fromEntries(outcomes)));
  // RESOURCE_EXHAUSTED is for streams beyond the limit of a connection, which those just cancelled count to; UNAVAILABLE, of the client's breaker then.
  expect(["Canceled", "OK", "ResourceExhausted", "Unavailable"]).toEqual(expect.arrayContaining([...outcomes.keys()]));
  expect(outcomes.get("Canceled")).toBeGreaterThan(calls / 2);
  for (const client of cancelling) expect((await eventually(() => client.hello({}))).message).toBe("Hello, Microservice!");
  await eventually(async () => {
    const metrics = await (await fetch(`${suite.adminUrl}/metrics`)).text();
    const inProgress = [...metrics.matchAll(/_active_calls\{[^}]*rpc_method="parley\.(?!events)[^}]*\} (\d+)/g)].map(([, value]) =>
      Number(value),
    );
    expect(inProgress.length).toBeGreaterThanOrEqual(6);
    expect(inProgress.filter((value) => value !== 0)).toEqual([]);
  });
  expect(suite.errors).toEqual([]);
  expect(await suite.stop()).toBe(0);
});

function openClient(address: string): Client<typeof GreeterService> {
  const transport = openTestTransport([address], { retries: false });
  return createClient(GreeterService, transport);
}
