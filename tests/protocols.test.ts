import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { accessOf } from "@parley/chassis/rpc/contract.ts";
import { contractsOf } from "@parley/gateway/contracts.ts";
import { bindingsOf } from "@parley/gateway/http-rule.ts";
import { Access } from "@parley/gen/parley/options/v1/options_pb.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { services } from "../services/all.ts";
import { type Suite, startSuite } from "./suite.ts";

const hello = "parley.greeter.v1.GreeterService/Hello";
const helloStream = "parley.greeter.v1.GreeterService/HelloStream";
const root = join(import.meta.dirname, "..");

let suite: Suite;
beforeAll(async () => {
  suite = await startSuite();
});
afterAll(async () => {
  expect(await suite.stop()).toBe(0);
});

async function bufCurl(...args: string[]): Promise<string[]> {
  const { stdout } = await promisify(execFile)(join(root, "node_modules/.bin/buf"), ["curl", ...args], { cwd: root });
  return stdout.split("\n").filter((line) => line.trim() !== "");
}

test("curl gets the greeting, byte for byte", async () => {
  const response = await fetch(`${suite.gatewayUrl}/api/hello`);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("application/json");
  expect(await response.text()).toBe('{"message":"Hello, Microservice!"}');
});

test.each([
  ["/api/hello/Ada", "Hello, Ada!"],
  ["/api/hello/Ada%20L%C3%B6velace", "Hello, Ada Lövelace!"],
  ["/api/hello/a%2Fb", "Hello, a/b!"],
  ["/api/hello?name=Bob", "Hello, Bob!"],
])("%s greets by name", async (path, message) => {
  expect(await (await fetch(suite.gatewayUrl + path)).json()).toEqual({ message });
});

test.each([
  [
    "the service over gRPC",
    () => ["--http2-prior-knowledge", "--protocol", "grpc", "-d", '{"name":"Ada"}', `http://${suite.grpcAddress}/${hello}`],
  ],
  [
    "the gateway over gRPC",
    () => ["--http2-prior-knowledge", "--protocol", "grpc", "--schema", "proto", "-d", '{"name":"Ada"}', `${suite.gatewayUrl}/${hello}`],
  ],
  [
    "the gateway over gRPC-Web",
    () => ["--protocol", "grpcweb", "--schema", "proto", "-d", '{"name":"Ada"}', `${suite.gatewayUrl}/${hello}`],
  ],
  [
    "the gateway over Connect",
    () => ["--protocol", "connect", "--schema", "proto", "-d", '{"name":"Ada"}', `${suite.gatewayUrl}/${hello}`],
  ],
  [
    "the gateway over Connect and HTTP/2",
    () => ["--http2-prior-knowledge", "--protocol", "connect", "--schema", "proto", "-d", '{"name":"Ada"}', `${suite.gatewayUrl}/${hello}`],
  ],
])("buf curl calls %s", async (_title, args) => {
  expect(JSON.parse((await bufCurl(...args())).join(""))).toEqual({ message: "Hello, Ada!" });
});

test("over REST a broken rule names its field as JSON does", async () => {
  const response = await fetch(`${suite.gatewayUrl}/v1/products?page_size=-1`);
  expect([response.status, await response.json()]).toMatchObject([
    400,
    { message: "pageSize: must be greater than or equal to 0", details: [{}, { fieldViolations: [{ field: "pageSize" }] }] },
  ]);
});

test("every method that somebody but a service may call has a REST form", () => {
  const missing = Object.keys(services)
    .flatMap((name) => contractsOf(name).flatMap(({ methods }) => methods))
    .filter((method) => accessOf(method).some((role) => role !== Access.SERVICE) && bindingsOf(method).length === 0);
  expect(missing.map(({ name }) => name)).toEqual([]);
});

test("buf curl finds methods by reflection", async () => {
  expect(await bufCurl("--http2-prior-knowledge", "--protocol", "grpc", "--list-methods", `http://${suite.grpcAddress}`)).toEqual(
    expect.arrayContaining([hello, helloStream, "grpc.health.v1.Health/Check"]),
  );
});
