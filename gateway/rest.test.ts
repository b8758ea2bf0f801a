import {
  create,
  createFileRegistry,
  type DescMessage,
  type DescMethod,
  type Message,
  type MessageInitShape,
  setExtension,
  toJson,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, MethodOptionsSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, createServiceImplSpec, type MethodImplSpec } from "@connectrpc/connect";
import { createAsyncIterable, readAllBytes, type UniversalServerRequest, type UniversalServerResponse } from "@connectrpc/connect/protocol";
import { createShutdown } from "@parley/chassis/rpc/shutdown.ts";
import { http } from "@parley/gen/google/api/annotations_pb.js";
import { HttpRuleSchema } from "@parley/gen/google/api/http_pb.js";
import { CollectionsSchema, EverythingSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { createRest, type RestOptions } from "./rest.ts";

type Rule = MessageInitShape<typeof HttpRuleSchema>;
type Pattern = NonNullable<Rule["pattern"]>;
const get = (path: string): Pattern => ({ case: "get", value: path });
const post = (path: string): Pattern => ({ case: "post", value: path });
const patch = (path: string): Pattern => ({ case: "patch", value: path });
const custom = (kind: string, path: string): Pattern => ({ case: "custom", value: { kind, path } });

/** A method, which takes and returns the same kind of message, with a rule. */
function methodWith(rule: Rule, message: DescMessage = EverythingSchema, stream: { client?: boolean; server?: boolean } = {}): DescMethod {
  const options = create(MethodOptionsSchema);
  setExtension(options, http, create(HttpRuleSchema, rule));
  const typeName = `.${message.typeName}`;
  const file = create(FileDescriptorProtoSchema, {
    name: "test.proto",
    package: "test",
    syntax: "proto3",
    dependency: [message.file.proto.name],
    service: [
      {
        name: "Messaging",
        method: [
          {
            name: "Transcode",
            inputType: typeName,
            outputType: typeName,
            options,
            clientStreaming: stream.client === true,
            serverStreaming: stream.server === true,
          },
        ],
      },
    ],
  });
  const registry = createFileRegistry(file, () => message.file);
  return registry.getService("test.Messaging")!.method["transcode"]!;
}

function handlerOf(...methods: DescMethod[]) {
  return handlerWith({}, ...methods);
}

function handlerWith(more: Partial<RestOptions>, ...methods: DescMethod[]) {
  const specs = methods.map((method): MethodImplSpec => {
    const [spec] = Object.values(createServiceImplSpec(method.parent, {}).methods);
    return spec!.kind === "unary" ? { ...spec!, impl: (request: Message) => request } : spec!;
  });
  const shutdown = createShutdown("the gateway");
  const find = createRest({
    methods: specs,
    interceptors: [],
    maxMessageBytes: 10_000,
    shutdown,
    ...more,
    unexpected: (error) => (error instanceof ConnectError ? error : expect.unreachable(String(error))),
  });
  return (request: UniversalServerRequest) => find(request.method, new URL(request.url).pathname).handle(request);
}

/** What a method with the rule got from a request such as `GET /v1/messages/1`, as JSON; or the status and message of its error. */
async function transcode(rule: Rule, request: string, body?: unknown, message?: DescMessage) {
  const [method = "", path = ""] = request.split(" ");
  const response = await handlerOf(methodWith(rule, message))({
    httpVersion: "1.1",
    method,
    url: `http://localhost${path}`,
    header: new Headers({ "content-type": "application/json" }),
    body: createAsyncIterable(body === undefined ? [] : [new TextEncoder().encode(JSON.stringify(body))]),
    signal: new AbortController().signal,
  });
  const json = JSON.parse(await textOf(response));
  return response.status === 200 ? json : [response.status, json.message];
}

async function textOf(response: UniversalServerResponse): Promise<string> {
  return new TextDecoder().decode(await readAllBytes(response.body!, 1_000_000));
}

test.each<[string, Rule, string, unknown, unknown]>([
  [
    "a variable of several segments",
    { pattern: get("/v1/{name=messages/*}") },
    "GET /v1/messages/123456",
    undefined,
    { name: "messages/123456" },
  ],
  [
    "fields of the query, those of an inner message too",
    { pattern: get("/v1/messages/{name}") },
    "GET /v1/messages/123456?revision=2&sub.subfield=foo",
    undefined,
    { name: "123456", revision: "2", sub: { subfield: "foo" } },
  ],
  ["a repeated field of the query", { pattern: get("/v1/a") }, "GET /v1/a?tags=A&tags=B", undefined, { tags: ["A", "B"] }],
  [
    "a field as the body",
    { pattern: patch("/v1/messages/{name}"), body: "sub" },
    "PATCH /v1/messages/123456",
    { subfield: "Hi!" },
    { name: "123456", sub: { subfield: "Hi!" } },
  ],
  [
    "a field as the body, others in the query",
    { pattern: patch("/v1/messages/{name}"), body: "sub" },
    "PATCH /v1/messages/1?updateMask=sub",
    { subfield: "Hi!" },
    { name: "1", sub: { subfield: "Hi!" }, updateMask: "sub" },
  ],
  [
    "a path that sets a field of the body's message",
    { pattern: patch("/v1/messages/{sub.subfield}"), body: "sub" },
    "PATCH /v1/messages/path",
    { subfield: "body", everything: { name: "x" } },
    { sub: { subfield: "path", everything: { name: "x" } } },
  ],
  [
    "all that the path has not as the body",
    { pattern: patch("/v1/messages/{name}"), body: "*" },
    "PATCH /v1/messages/123456",
    { left: "Hi!" },
    { name: "123456", left: "Hi!" },
  ],
  [
    "a path that goes before the body",
    { pattern: patch("/v1/messages/{name}"), body: "*" },
    "PATCH /v1/messages/path",
    { name: "body" },
    { name: "path" },
  ],
  ["a list as the body", { pattern: post("/v1/a"), body: "tags" }, "POST /v1/a", ["A", "B"], { tags: ["A", "B"] }],
  ["a text as the body", { pattern: post("/v1/a"), body: "name" }, "POST /v1/a", "text", { name: "text" }],
  ["no body where the rule names one", { pattern: post("/v1/a"), body: "sub" }, "POST /v1/a", undefined, {}],
  ["no body where all is the body", { pattern: post("/v1/a"), body: "*" }, "POST /v1/a", undefined, {}],
  [
    "the second of two bindings",
    { pattern: get("/v1/messages/{name}"), additionalBindings: [{ pattern: get("/v1/users/{left}/messages/{name}") }] },
    "GET /v1/users/me/messages/123456",
    undefined,
    { left: "me", name: "123456" },
  ],
  ["a verb", { pattern: post("/v1/{name}:go"), body: "*" }, "POST /v1/x:go", {}, { name: "x" }],
  ["PUT", { pattern: { case: "put", value: "/v1/a" }, body: "*" }, "PUT /v1/a", { name: "x" }, { name: "x" }],
  ["DELETE", { pattern: { case: "delete", value: "/v1/{name}" } }, "DELETE /v1/x", undefined, { name: "x" }],
  ["a custom HTTP method", { pattern: custom("QUERY", "/v1/{name}"), body: "*" }, "QUERY /v1/x", {}, { name: "x" }],
  ["any HTTP method", { pattern: custom("*", "/v1/{name}") }, "PROPFIND /v1/x", undefined, { name: "x" }],
  ["a field of the answer", { pattern: get("/v1/a"), responseBody: "sub" }, "GET /v1/a?sub.subfield=x", undefined, { subfield: "x" }],
  ["a list of the answer", { pattern: get("/v1/a"), responseBody: "tags" }, "GET /v1/a?tags=x", undefined, ["x"]],
  ["a list of the answer that is empty", { pattern: get("/v1/a"), responseBody: "tags" }, "GET /v1/a", undefined, []],
  ["a text of the answer that is empty", { pattern: get("/v1/a"), responseBody: "name" }, "GET /v1/a", undefined, ""],
  ["a message of the answer that there is not", { pattern: get("/v1/a"), responseBody: "sub" }, "GET /v1/a", undefined, null],
])("a request has %s", async (_title, rule, request, body, expected) => {
  expect(await transcode(rule, request, body)).toEqual(expected);
});

test.each([
  ["name=a%20b+c", { name: "a b c" }],
  ["revision=9223372036854775807", { revision: "9223372036854775807" }],
  ["color=COLOR_RED", { color: "COLOR_RED" }],
  ["color=2", { color: "COLOR_GREEN" }],
  ["colors=COLOR_RED&colors=2", { colors: ["COLOR_RED", "COLOR_GREEN"] }],
  ["flag=true", { flag: true }],
  ["ratio=0.5", { ratio: 0.5 }],
  ["ratio=-Infinity", { ratio: "-Infinity" }],
  ["blob=_-8%3D", { blob: "/+8=" }],
  ["create_time=2026-11-26T01:02:03.5Z", { createTime: "2026-11-26T01:02:03.500Z" }],
  ["createTime=2026-11-26T01:02:03Z", { createTime: "2026-11-26T01:02:03Z" }],
  ["delay=1.5s", { delay: "1.500s" }],
  ["update_mask=sub.subfield,create_time", { updateMask: "sub.subfield,createTime" }],
  ["maybeText=", { maybeText: "" }],
  ["maybeFlag=false", { maybeFlag: false }],
  ["count=0", { count: 0 }],
  ["right=0", { right: 0 }],
  ["sub.everything.sub.subfield=x", [400, /sub\.everything\.sub\.subfield: stands in the query, but belongs/]],
  ["color=PURPLE", [400, /PURPLE/]],
  ["flag=yes", [400, /yes/]],
  ["revision=x", [400, /x/]],
  ["count=-1", [400, /-1/]],
  ["delay=soon", [400, /soon/]],
  ["left=a&right=1", [400, /choice|left|right/]],
  ["name=a&name=b", [400, /name: stands in the query more than once/]],
  ["create_time=2026-11-26T01:02:03Z&createTime=2026-11-26T01:02:03Z", [400, /create_time: stands in the query more than once/]],
  ["colors=COLOR_RED&colors=", [400, /color|enum/i]],
  ["sub=x", [400, /sub: .*no such field that a URL can set/]],
  ["nothing=x", [400, /nothing: parley\.testing\.v1\.Everything has no such field/]],
  ["__proto__.x=1", [400, /no such field/]],
])("the query %s", async (query, expected) => {
  const [status, message] = Array.isArray(expected) ? expected : [];
  const found = await transcode({ pattern: get("/v1/a") }, `GET /v1/a?${query}`);
  if (status === undefined) expect(found).toEqual(expected);
  else expect(found).toEqual([status, expect.stringMatching(message as RegExp)]);
});

test.each<[string, Rule, string, unknown, number, string]>([
  ["a field of the path in the query", { pattern: get("/v1/{name}") }, "GET /v1/x?name=y", undefined, 400, "name: stands in the query"],
  [
    "a field of the body in the query",
    { pattern: post("/v1/a"), body: "sub" },
    "POST /v1/a?sub.subfield=y",
    {},
    400,
    "sub.subfield: stands",
  ],
  ["a query beside a whole body", { pattern: post("/v1/a"), body: "*" }, "POST /v1/a?name=y", {}, 400, "name: stands in the query"],
  ["a body that is no object", { pattern: post("/v1/a"), body: "*" }, "POST /v1/a", [1], 400, "the body is not a JSON object"],
  ["a path of another type", { pattern: get("/v1/{revision}") }, "GET /v1/x", undefined, 400, "x"],
  ["another HTTP method", { pattern: get("/v1/a") }, "POST /v1/a", undefined, 405, "/v1/a takes GET, HEAD, not POST"],
  ["another path", { pattern: get("/v1/a") }, "GET /v1/b", undefined, 404, "there is nothing at /v1/b"],
])("%s is refused", async (_title, rule, request, body, status, message) => {
  expect(await transcode(rule, request, body)).toEqual([status, expect.stringContaining(message)]);
});

test.each<[string, Rule, string, DescMessage?, { client?: boolean }?]>([
  ["no path", {}, "it has no path"],
  ["what is no template", { pattern: get("/v1/{name") }, "is no path template"],
  ["a field that there is not", { pattern: get("/v1/{nothing}") }, "has no field nothing of a single value"],
  ["a repeated field in the path", { pattern: get("/v1/{tags}") }, "has no field tags of a single value"],
  ["a message in the path", { pattern: get("/v1/{sub}") }, "has no field sub of a single value"],
  ["a map in the path", { pattern: get("/v1/{labels}") }, "has no field labels of a single value", CollectionsSchema],
  ["a body that there is not", { pattern: post("/v1"), body: "nothing" }, "has no field nothing"],
  ["a body of an inner message", { pattern: post("/v1"), body: "sub.subfield" }, "has no field sub.subfield"],
  ["a body for GET", { pattern: get("/v1"), body: "*" }, "a request of GET has no body"],
  ["an answer's field that there is not", { pattern: get("/v1"), responseBody: "nothing" }, "has no field nothing"],
  ["repeated messages in the query", { pattern: get("/v1") }, "no query can set its field items", CollectionsSchema],
  ["a kind that is no HTTP method", { pattern: custom("get it", "/v1") }, 'its custom kind "get it"'],
  [
    "bindings of bindings",
    { pattern: get("/a"), additionalBindings: [{ pattern: get("/b"), additionalBindings: [{}] }] },
    "have additional",
  ],
  [
    "a stream of requests",
    { pattern: post("/v1"), body: "*" },
    "a stream of requests has no REST form",
    EverythingSchema,
    { client: true },
  ],
])("a rule with %s stops the start, and names its method", (_title, rule, why, message, stream) => {
  const start = (): unknown => handlerOf(methodWith(rule, message, stream));
  expect(start).toThrow("test.Messaging.Transcode has a google.api.http rule that cannot be followed: ");
  expect(start).toThrow(why);
});

test("two methods at one route stop the start, with their names", () => {
  const name = "test.Messaging.Transcode";
  expect(() => handlerOf(methodWith({ pattern: get("/v1/{name}:go") }), methodWith({ pattern: get("/v1/{left}:go") }))).toThrow(
    `${name} (GET /v1/*:go) and ${name} (GET /v1/*:go) have the same route`,
  );
});

test("a message of every kind of field is the same in a body as in ProtoJSON", async () => {
  const message = create(EverythingSchema, { name: "x", revision: 5n, tags: ["a"], choice: { case: "right", value: 3 }, maybeText: "" });
  const json = toJson(EverythingSchema, message);
  expect(await transcode({ pattern: post("/v1"), body: "*" }, "POST /v1", json)).toEqual(json);
});

test("a method at a path of the gateway's own stops the start", () => {
  expect(() => handlerWith({ reservedPaths: ["/docs"] }, methodWith({ pattern: get("/{name}") }))).toThrow(
    "test.Messaging.Transcode (GET /*) has a route at /docs, where the gateway has a page of its own",
  );
});

test("events whose first is long in coming begin with a heartbeat, so that their client knows that it is connected", async () => {
  const method = methodWith({ pattern: get("/v1") }, EverythingSchema, { server: true });
  const [spec] = Object.values(createServiceImplSpec(method.parent, {}).methods);
  const release = Promise.withResolvers<void>();
  async function* impl(request: Message) {
    await release.promise;
    yield request;
  }
  const handler = handlerWith({ heartbeatMs: 50, methods: [{ ...spec!, impl } as MethodImplSpec] });
  const { status, body } = await handler({
    httpVersion: "1.1",
    method: "GET",
    url: "http://localhost/v1?name=x",
    header: new Headers({ accept: "text/event-stream" }),
    body: createAsyncIterable([]),
    signal: new AbortController().signal,
  });
  let text = "";
  for await (const bytes of body!) {
    text += new TextDecoder().decode(bytes);
    release.resolve();
  }
  expect([status, text]).toEqual([200, expect.stringMatching(/^(:\n\n)+data: \{"name":"x"\}\n\nevent: status\n/)]);
});
