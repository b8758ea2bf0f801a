import { Agent, request } from "node:http";
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { describe, expect, onTestFinished, test } from "vitest";
import { partPids, startSuite, tokenFor } from "./suite.ts";

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** Sends a request over the agent's connections. Rejects where it got no answer, with the code of why. */
function send(url: string, agent: Agent, { method = "GET", token = "", body = "" } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", ...(token !== "" && { authorization: `Bearer ${token}` }) };
    const call = request(url, { method, agent, headers }, async (response) => {
      try {
        resolve({ status: response.statusCode ?? 0, text: (await response.setEncoding("utf8").toArray()).join("") });
      } catch (error) {
        reject(error);
      }
    });
    call.on("error", reject).end(body);
  });
}

/** Calls again and again, so many at once, until it is told to stop; returns what became of the calls, by status or error. */
function startLoad(atOnce: number, call: () => Promise<Answer>) {
  const answers: (Answer | Error)[] = [];
  let stopped = false;
  const loops = Array.from({ length: atOnce }, async () => {
    while (!stopped) {
      const answer = await call().catch((error: Error) => error);
      answers.push(answer);
      if (answer instanceof Error || answer.status !== 200) await delay(20);
    }
  });
  return {
    answers,
    async stop(): Promise<(Answer | Error)[]> {
      stopped = true;
      await Promise.all(loops);
      return answers;
    },
  };
}

function failuresOf(answers: readonly (Answer | Error)[]): unknown[] {
  return answers.filter((answer) => answer instanceof Error || answer.status !== 200);
}

describe("with a service of which one replica", () => {
  /** Both replicas take calls by then: the gateway connects to all at its first call. */
  async function openReplicated() {
    const suite = await startSuite({ args: ["--split", "--replicas", "catalog=2"] });
    onTestFinished(() => void suite.stop());
    const agent = new Agent({ keepAlive: true });
    onTestFinished(() => agent.destroy());
    return { suite, agent };
  }

  test("stops in order, no call fails", async () => {
    const { suite, agent } = await openReplicated();
    const load = startLoad(16, () => send(`${suite.gatewayUrl}/v1/products/kite`, agent));
    await eventually(() => expect(load.answers.length).toBeGreaterThan(100));
    const [first] = await partPids(suite, "catalog");
    process.kill(first!, "SIGTERM");
    await eventually(async () => {
      const pids = await partPids(suite, "catalog");
      expect(pids).toHaveLength(2);
      expect(pids).not.toContain(first);
    });
    const before = load.answers.length;
    await eventually(() => expect(load.answers.length).toBeGreaterThan(before + 100));
    expect(failuresOf(await load.stop())).toEqual([]);
  });

  test("is killed, calls that may be repeated succeed, and others fail once, as UNAVAILABLE", async () => {
    const { suite, agent } = await openReplicated();
    const staff = await tokenFor(suite, "bob", "staff");
    const update = { method: "PATCH", token: staff, body: '{"description":"A kite."}' };
    const reads = startLoad(4, () => send(`${suite.gatewayUrl}/v1/products/kite`, agent));
    const writes = startLoad(2, () => send(`${suite.gatewayUrl}/v1/products/kite?updateMask=description`, agent, update));
    await eventually(() => expect(Math.min(reads.answers.length, writes.answers.length)).toBeGreaterThan(50));
    const [first] = await partPids(suite, "catalog");
    process.kill(first!, "SIGKILL");
    await eventually(async () => {
      const pids = await partPids(suite, "catalog");
      expect(pids).toHaveLength(2);
      expect(pids).not.toContain(first);
    });
    const before = [reads.answers.length, writes.answers.length];
    await eventually(() => expect(writes.answers.length).toBeGreaterThan(before[1]! + 20));
    expect(failuresOf(await reads.stop())).toEqual([]);
    const failures = failuresOf(await writes.stop());
    expect(failures.length).toBeLessThanOrEqual(2); // those that it was working on
    for (const failure of failures)
      expect(failure).toMatchObject({
        status: 503,
        text: expect.stringContaining("parley.catalog.v1.CatalogService cannot be reached; try again"),
      });
  });
});

test("when the gateway is told to stop under load, every request that it accepted is answered, and its successor serves", async () => {
  const suite = await startSuite({ args: ["--split"] });
  onTestFinished(() => void suite.stop());
  const agent = new Agent({ keepAlive: true });
  onTestFinished(() => agent.destroy());
  const load = startLoad(16, () => send(`${suite.gatewayUrl}/api/hello`, agent));
  await eventually(() => expect(load.answers.length).toBeGreaterThan(200));
  const [first] = await partPids(suite, "gateway");
  process.kill(first!, "SIGTERM");
  await eventually(async () => {
    const pids = await partPids(suite, "gateway");
    expect(pids).toHaveLength(1);
    expect(pids).not.toContain(first);
  });
  await eventually(async () => expect((await send(`${suite.gatewayUrl}/api/hello`, agent)).status).toBe(200));
  const failures = failuresOf(await load.stop());
  // Connections that nobody took any more: of the gateway that is gone, and before the next one listens.
  expect(failures.filter((failure) => !(failure instanceof Error && "code" in failure && failure.code === "ECONNREFUSED"))).toEqual([]);
});

describe("a service that is", () => {
  const hang = async (): Promise<number> => {
    const server = createServer(() => {});
    const port = await findFreePorts(1);
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    return port;
  };
  test.each([
    ["down is 503 at once", async () => findFreePorts(1), 503, /UNAVAILABLE|CIRCUIT_OPEN/, 1_000],
    ["there, but answers nothing, is told within the contract's deadline of 2 s", hang, 504, /DEADLINE_EXCEEDED/, 4_000],
  ] as const)("%s, and the other routes are served meanwhile", async (_title, findPort, status, reason, atMostMs) => {
    const suite = await startSuite({ env: { PARLEY_CATALOG_TARGET: `dns:///127.0.0.1:${await findPort()}` } });
    onTestFinished(() => void suite.stop());
    const agent = new Agent({ keepAlive: true });
    onTestFinished(() => agent.destroy());
    await send(`${suite.gatewayUrl}/api/hello`, agent);
    const startedMs = performance.now();
    const calls = Array.from({ length: 20 }, () => send(`${suite.gatewayUrl}/v1/products/kite`, agent));
    expect((await send(`${suite.gatewayUrl}/api/hello`, agent)).status).toBe(200);
    for (const answer of await Promise.all(calls)) expect(answer).toMatchObject({ status, text: expect.stringMatching(reason) });
    expect(performance.now() - startedMs).toBeLessThan(atMostMs); // a promise of the contract, not a measure of speed
    expect((await send(`${suite.gatewayUrl}/api/hello`, agent)).status).toBe(200);
  });
});
