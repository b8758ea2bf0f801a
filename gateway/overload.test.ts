import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { openTestGateway } from "./testing.ts";

test("a gateway with more to do than it can refuses calls at once, in each protocol, and takes critical ones", async () => {
  const { url } = await openTestGateway({
    handlers: {
      echo({ text }) {
        const untilMs = performance.now() + 5;
        while (performance.now() < untilMs);
        return { text };
      },
    },
  });
  const client = createClient(EchoService, createGrpcTransport({ baseUrl: url }));
  const refused: { header: string | null; body: unknown }[] = [];
  const refusedByGrpc: unknown[] = [];
  let isOver = false;
  const restClients = Array.from({ length: 150 }, async () => {
    while (!isOver) {
      const response = await fetch(`${url}/testing/echo/x`);
      const body: unknown = await response.json();
      if (response.status === 429) refused.push({ header: response.headers.get("retry-after"), body });
    }
  });
  const grpcClients = Array.from({ length: 150 }, async () => {
    while (!isOver) await client.echo({}).catch((error: unknown) => refusedByGrpc.push(ConnectError.from(error).code));
  });
  try {
    const message = "gateway has more to do than it can; try again later"; // the service behind it would say so too
    await eventually(() =>
      expect(refused).toContainEqual({
        header: expect.stringMatching(/^[12]$/),
        body: { code: Code.ResourceExhausted, message, details: [expect.objectContaining({ reason: "OVERLOADED" }), expect.anything()] },
      }),
    );
    await eventually(() => expect(refusedByGrpc).toContain(Code.ResourceExhausted));
    await client.echoCritical({});
  } finally {
    isOver = true;
    await Promise.all([...restClients, ...grpcClients]);
  }
});
