import { Code, createClient, type Transport } from "@connectrpc/connect";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { failureOf } from "@parley/chassis/testing/failure.ts";
import { createNeighbour, openTestServer, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { BadRequestSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { describe, expect, test } from "vitest";
import { handlers } from "./handlers.ts";

async function overGrpc(): Promise<Transport> {
  const { port } = await openTestServer([implement(GreeterService, handlers)]);
  return openTestTransport([port]);
}

describe.each([
  ["over gRPC", overGrpc],
  ["in memory", async () => createNeighbour(GreeterService, handlers)],
])("%s", (_title, transport) => {
  test("greets by name, and everybody without one", async () => {
    const client = createClient(GreeterService, await transport());
    expect(await client.hello({ name: "Ada" })).toMatchObject({ message: "Hello, Ada!" });
    expect(await client.hello({})).toMatchObject({ message: "Hello, Microservice!" });
  });

  test("greets each of several names, round after round", async () => {
    const client = createClient(GreeterService, await transport());
    const stream = client.helloStream({ names: ["Ada", "Bob"], count: 2, interval: { nanos: 1_000_000 } });
    const messages = (await Array.fromAsync(stream)).map(({ message }) => message);
    expect(messages).toEqual(["Hello, Ada!", "Hello, Bob!", "Hello, Ada!", "Hello, Bob!"]);
  });
});

test.each([
  ["an empty name", "name", { name: "" }],
  ["a name of 65 characters", "name", { name: "x".repeat(65) }],
  ["a name with a line break", "name", { name: "a\nb" }],
])("%s is refused", async (_title, field, request) => {
  const client = createClient(GreeterService, await overGrpc());
  const error = await failureOf(client.hello(request));
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations.map((violation) => violation.field)).toEqual([field]);
});

test.each([600, 2_000_000])("a request with %i mistakes is told of a few, and ends no call of others", async (count) => {
  const client = createClient(GreeterService, await overGrpc());
  const others = client.helloStream({ names: ["Ada"], count: 20, interval: { nanos: 20_000_000 } })[Symbol.asyncIterator]();
  await others.next();
  const error = await failureOf(Array.fromAsync(client.helloStream({ names: Array(count).fill("") })));
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.rawMessage.length).toBeLessThan(600);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations.length).toBe(count === 600 ? 10 : 1);
  const rest = await Array.fromAsync({ [Symbol.asyncIterator]: () => others });
  expect(rest).toHaveLength(19);
});

test("a name of 64 characters of any language is greeted", async () => {
  const client = createClient(GreeterService, await overGrpc());
  const name = "ß".repeat(64);
  expect(await client.hello({ name })).toMatchObject({ message: `Hello, ${name}!` });
});

test.each([
  ["no names", "names", { names: [] }],
  ["11 names", "names", { names: Array(11).fill("Ada") }],
  ["a name with a control character", "names[1]", { names: ["Ada", "\u0007"] }],
  ["0 rounds", "count", { names: ["Ada"], count: 0 }],
  ["101 rounds", "count", { names: ["Ada"], count: 101 }],
  ["an interval of 11 s", "interval", { names: ["Ada"], interval: { seconds: 11n } }],
  ["an interval below 0", "interval", { names: ["Ada"], interval: { seconds: -1n } }],
])("a stream with %s is refused", async (_title, field, request) => {
  const client = createClient(GreeterService, await overGrpc());
  const error = await failureOf(Array.fromAsync(client.helloStream(request)));
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations.map((violation) => violation.field)).toEqual([field]);
});
