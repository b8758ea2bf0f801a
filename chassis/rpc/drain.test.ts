import { connect } from "node:http2";
import { Code } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { eventually, standstill } from "../testing/eventually.ts";
import { failureOf } from "../testing/failure.ts";
import { grpcFrame } from "../testing/raw-grpc.ts";
import { openTestEcho } from "../testing/rpc.ts";

test("while it drains, calls in progress are finished and streams end with UNAVAILABLE", async () => {
  const [running, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { client, server } = await openTestEcho({
    echo: async () => {
      running.resolve();
      await release.promise;
      return { text: "finished" };
    },
    repeat: async function* () {
      yield {};
      await new Promise(() => {}); // it does not listen to its signal
    },
  });
  const stream = client.repeat({})[Symbol.asyncIterator]();
  await stream.next();
  const call = client.echo({});
  await running.promise;
  const drained = server.drain(new AbortController().signal);
  expect(await failureOf(stream.next())).toMatchObject({ code: Code.Unavailable, rawMessage: "the server is stopping; try again" });
  release.resolve();
  expect((await call).text).toBe("finished");
  await drained;
});

test("calls that do not end while it drains end with UNAVAILABLE when it gives up", async () => {
  const running = Promise.withResolvers<void>();
  const { client, server } = await openTestEcho({
    echoOnce: () => {
      running.resolve();
      return new Promise(() => {});
    },
  });
  const failure = failureOf(client.echoOnce({}));
  await running.promise;
  const giveUp = new AbortController();
  const drained = server.drain(giveUp.signal);
  giveUp.abort();
  expect(await failure).toMatchObject({ code: Code.Unavailable, rawMessage: "the server is stopping; try again" });
  await drained;
});

test("a reader that stalls does not keep the server from stopping", async () => {
  let sent = 0;
  const { server } = await openTestEcho({
    repeat: async function* () {
      for (const text = "x".repeat(64 * 1024); ; sent++) yield { text };
    },
  });
  const session = connect(`http://127.0.0.1:${server.port}`);
  session.on("error", () => {});
  const stream = session.request({
    ":method": "POST",
    ":path": "/parley.testing.v1.EchoService/Repeat",
    "content-type": "application/grpc",
  });
  stream.on("error", () => {}).end(grpcFrame(Buffer.of()));
  await standstill(() => sent);
  await server.drain(AbortSignal.abort());
  expect(server.logs).toContainEqual(expect.objectContaining({ body: "call", "rpc.response.status_code": "UNAVAILABLE" }));
});

test("a connection that reached its age is replaced without a failed call", async () => {
  const { client } = await openTestEcho({}, { connectionAgeMs: 100 });
  const peers = new Set<string>();
  const { client: other, server } = await openTestEcho({}, { connectionAgeMs: 100 });
  await eventually(async () => {
    await Promise.all([client.echo({ text: "x" }), other.echo({ text: "x" })]);
    for (const entry of server.logs) if (typeof entry["client.address"] === "string") peers.add(entry["client.address"]);
    expect(peers.size).toBeGreaterThan(2);
  });
});
