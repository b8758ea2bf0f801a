import { connect as connectHttp2, constants } from "node:http2";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { asUser } from "@parley/chassis/testing/auth.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { failureOf } from "@parley/chassis/testing/failure.ts";
import { ErrorInfoSchema, RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { createBuckets } from "./rate-limit.ts";
import { openTestGateway, talk } from "./testing.ts";

const slow = { PARLEY_GATEWAY_RATE_LIMIT: "1", PARLEY_GATEWAY_RATE_BURST: "3" };

/** Calls until it is refused, and returns how often it was let in: a burst, and more only where that took seconds. */
async function callUntilRefused(url: string, headers: Record<string, string> = {}): Promise<{ letIn: number; refusal: Response }> {
  for (let letIn = 0; ; letIn++) {
    const response = await fetch(`${url}/testing/echo/x`, { headers });
    if (response.status !== 200) return { letIn, refusal: response };
  }
}

test("a burst is let in at once, and then one call each time", () => {
  const take = createBuckets({ perSecond: 10, burst: 3 });
  expect([take("a", 0), take("a", 0), take("a", 0)]).toEqual([0, 0, 0]);
  expect(take("a", 0)).toBe(100);
  expect(take("a", 60)).toBe(40);
  expect(take("a", 100)).toBe(0);
  expect(take("a", 100)).toBe(100);
  expect(take("b", 100)).toBe(0);
  expect([take("a", 1_000), take("a", 1_000), take("a", 1_000), take("a", 1_000)]).toEqual([0, 0, 0, 100]);
});

test("over a long time no more are let in than the rate and one burst", () => {
  const take = createBuckets({ perSecond: 50, burst: 10 });
  let letIn = 0;
  for (let nowMs = 0; nowMs < 10_000; nowMs++) if (take("a", nowMs) === 0) letIn++;
  expect(letIn).toBe(50 * 10 + 10 - 1);
});

test("many callers are forgotten when they are as new, and never more than a limit are remembered", () => {
  const take = createBuckets({ perSecond: 1, burst: 1 });
  for (let index = 0; index < 150_000; index++) take(`caller ${index}`, 0);
  expect(take("caller 149999", 0)).toBeGreaterThan(0);
  expect(take("caller 0", 0)).toBe(0); // it was forgotten
});

test("who calls too often without a token is refused by address, over each protocol, and told when to try again", async () => {
  const { url } = await openTestGateway({ env: slow });
  const { letIn, refusal: rest } = await callUntilRefused(url);
  expect(letIn).toBeGreaterThanOrEqual(3);
  expect([rest.status, rest.headers.get("retry-after")]).toEqual([429, "1"]);
  expect(await rest.json()).toMatchObject({
    code: Code.ResourceExhausted,
    details: [{ reason: "RATE_LIMITED" }, { retryDelay: expect.stringMatching(/^0\.\d+s$/) }],
  });
  const transports = [
    createConnectTransport({ baseUrl: url, httpVersion: "1.1" }),
    createGrpcWebTransport({ baseUrl: url, httpVersion: "1.1" }),
    createGrpcTransport({ baseUrl: url }),
  ];
  for (const transport of transports) {
    const stream = await failureOf(
      Promise.all(Array.from({ length: 5 }, () => Array.fromAsync(createClient(EchoService, transport).repeat({})))),
    );
    expect(stream.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "RATE_LIMITED" }]);
    const error = await failureOf(Promise.all(Array.from({ length: 5 }, () => createClient(EchoService, transport).echo({}))));
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "RATE_LIMITED" }]);
    expect(error.findDetails(RetryInfoSchema)).toHaveLength(1);
  }
});

test("a connection goes on after a refusal", async () => {
  const { url, port } = await openTestGateway({ env: slow });
  await callUntilRefused(url);
  const request = "POST /testing/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
  const answers = await talk(port, `${request}${request}${request.replace("host: x", "host: x\r\nconnection: close")}`);
  expect(answers.match(/HTTP\/1\.1 429/g)?.length).toBeGreaterThanOrEqual(2);
});

test("who leaves while a token is checked harms nobody, refused or let in", async () => {
  const handling = new Set<object>();
  const handlers = {
    repeat: async function* (_request: unknown, { signal }: { signal: AbortSignal }) {
      handling.add(signal);
      signal.addEventListener("abort", () => handling.delete(signal));
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      yield {};
    },
  };
  for (const limit of ["1", "100000"]) {
    const { url } = await openTestGateway({ env: { PARLEY_GATEWAY_RATE_LIMIT: limit, PARLEY_GATEWAY_RATE_BURST: "1" }, handlers });
    const [head, body] = (await asUser("alice", "customer")).headers.authorization.split(".");
    const session = connectHttp2(url);
    for (let index = 0; index < 600; index++) {
      const authorization = `${head}.${body}.${"A".repeat(80)}${index}`; // another one each time: none is remembered
      const isGrpc = index % 2 === 0;
      const stream = session.request(
        isGrpc
          ? { ":method": "POST", ":path": "/parley.testing.v1.EchoService/Repeat", "content-type": "application/grpc", authorization }
          : { ":path": "/testing/repeat", authorization },
      );
      stream.on("error", () => {}).end(isGrpc ? Buffer.alloc(5) : undefined);
      setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), index % 4);
      if (index % 10 === 0) await new Promise(setImmediate);
    }
    session.destroy();
    await eventually(() => expect(handling.size).toBe(0));
    const response = await fetch(`${url}/docs`); // and nothing was thrown meanwhile, or Vitest fails
    expect(response.status).toBe(200);
  }
});

test("who has a valid token is counted by its subject, and with another one by address", async () => {
  const { url } = await openTestGateway({ env: slow });
  const [alice, bob] = [(await asUser("alice", "customer")).headers, (await asUser("bob", "customer")).headers];
  for (const headers of [alice, bob]) expect((await callUntilRefused(url, headers)).letIn).toBeGreaterThanOrEqual(3);
  // With alice's name in it, signed by nobody: it takes from the address, not from her.
  const forged = `${alice.authorization.split(".").slice(0, 2).join(".")}.AAAA`;
  expect((await callUntilRefused(url, { authorization: forged })).letIn).toBeGreaterThanOrEqual(3);
  expect((await callUntilRefused(url)).letIn).toBeLessThan(3);
});

test("behind a proxy that is trusted each client is counted by itself", async () => {
  const { url } = await openTestGateway({ env: { ...slow, PARLEY_GATEWAY_TRUSTED_PROXIES: "127.0.0.0/8" } });
  const [one, other] = ["203.0.113.1", "203.0.113.2"].map((client) => ({ "x-forwarded-for": client }));
  for (const headers of [one, other]) expect((await callUntilRefused(url, headers)).letIn).toBeGreaterThanOrEqual(3);
});
