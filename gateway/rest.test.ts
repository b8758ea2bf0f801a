import { createServiceImplSpec } from "@connectrpc/connect";
import { createShutdown } from "@parley/chassis/rpc/shutdown.ts";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { createRestHandler } from "./rest.ts";

test("two methods at one route are refused at the start, with their names", () => {
  const methods = Object.values(createServiceImplSpec(EchoService, {}).methods);
  const options = { interceptors: [], maxMessageBytes: 1, shutdown: createShutdown("the gateway"), unexpected: () => expect.unreachable() };
  expect(() => createRestHandler({ ...options, methods })).not.toThrow();
  expect(() => createRestHandler({ ...options, methods: [...methods, ...methods] })).toThrow(
    "parley.testing.v1.EchoService.EchoOnce and parley.testing.v1.EchoService.EchoOnce have the same route, POST /testing/echo:once",
  );
});
