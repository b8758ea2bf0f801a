import type { Random } from "@parley/chassis/testing/random.ts";

/** A request that HTTP itself finds no fault with: it must be answered. */
export interface WholeRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: Buffer | undefined;
}

/** What is sent to the gateway, by kind. */
export interface Inputs {
  /** Bytes that may be anything. */
  raw(): Buffer;
  /** A request of HTTP/1.1 that was right before some of its bytes were changed. */
  http1(): Buffer;
  /** Frames of HTTP/2, some of which are none. */
  http2(): Buffer;
  /** A REST or Connect request with JSON that may be anything, at a route that there is. */
  json(): WholeRequest;
  /** A request for a path that may be anything. */
  url(): WholeRequest;
  /** The path and the body of a gRPC call, whose frames may be anything. */
  grpc(): { path: string; type: string; body: Buffer };
}

/** A JSON Schema, as far as it matters for values that are right. */
export interface Schema {
  readonly $ref?: string;
  readonly type?: string | string[];
  readonly format?: string;
  readonly examples?: readonly unknown[];
  readonly enum?: readonly string[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
}

export interface Operation {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, Schema>>;
  readonly body: Schema | undefined;
}

/** What requests are made from: the routes of the gateway's own OpenAPI document, its methods, and tokens. */
export interface Material {
  readonly operations: readonly Operation[];
  /** What the operations' schemas refer to, by name. */
  readonly schemas: Readonly<Record<string, Schema>>;
  readonly methods: readonly string[];
  readonly tokens: readonly string[];
}

const nothing: Operation = { method: "GET", path: "/", query: {}, body: undefined };
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const weirdTexts: [string, ...string[]] = [
  "",
  "\0",
  "\uD800",
  "💥".repeat(40),
  "x".repeat(70_000),
  "../../etc/passwd",
  "'; DROP TABLE product; --",
  "{{7*7}}",
  "<script>",
  "__proto__",
  "constructor",
  "2026-13-45T99:99:99Z",
  "0001-01-01T00:00:00Z",
  "-1s",
  "315576000001s",
  "9".repeat(400),
  "1e400",
  "NaN",
  "0191e0a4-5f7e-7cc1-8a62-3f0a0c5f9d11",
  "kite",
  "eyJvcmRlciI6Mn0",
  "\u202E",
  "a\r\nb: c",
];
const weirdNumbers: [number, ...number[]] = [0, -0, -1, 1, 2 ** 31, -(2 ** 31) - 1, 2 ** 53, 2 ** 63, 1e308, 0.1, 1e-320];
const weirdSegments: [string, ...string[]] = [
  "%",
  "%00",
  "%ff",
  "%2F",
  "%2e%2e",
  "..",
  ".",
  "",
  ":",
  "*",
  "**",
  "{a}",
  "a:b:c",
  "%F0%9F%92%A5",
  "~",
  ";a=b",
  "\\",
];
const weirdHeaders: [string, ...string[]] = [
  "transfer-encoding: chunked",
  "transfer-encoding: gzip, chunked",
  "content-length: -1",
  "content-length: 99999999999999999999",
  "content-length: 3",
  "connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAA",
  "connection: close, keep-alive",
  "expect: 100-continue",
  "content-encoding: gzip",
  "content-encoding: br",
  "accept-encoding: gzip;q=0, br;q=2, *",
  "connect-timeout-ms: -5",
  "connect-timeout-ms: 99999999999",
  "grpc-timeout: 1n",
  "grpc-timeout: 99999999H",
  "grpc-encoding: snappy",
  "authorization: Bearer x.y.z",
  `authorization: Bearer ${"A".repeat(6_000)}`,
  "x-request-id: \t",
  "traceparent: 00-0-0-0",
  "x-forwarded-for: 1.2.3.4, ,,",
  "if-none-match: *",
  "origin: null",
  "access-control-request-method: POST",
  "accept: text/event-stream",
  "host: [::",
  `x-long: ${"y".repeat(15_000)}`,
];

export function createInputs(random: Random, { operations, schemas, methods, tokens }: Material): Inputs {
  const some = <T>(values: readonly T[], fallback: T): T => values[random.between(0, values.length - 1)] ?? fallback;
  const bytes = (length: number): Buffer => Buffer.from(Array.from({ length }, () => random.between(0, 255)));

  /** JSON that may be anything, deep or wide now and then. */
  const value = (depth = 0): unknown => {
    if (random.chance(0.01)) return Array.from({ length: 3_000 }, () => random.pick(weirdNumbers));
    if (random.chance(0.01)) return JSON.parse(`${"[".repeat(2_000)}${"]".repeat(2_000)}`);
    const kind = random.between(0, depth > 3 ? 5 : 7);
    if (kind <= 2) return random.pick(weirdTexts);
    if (kind === 3) return random.pick(weirdNumbers);
    if (kind === 4) return random.pick([true, false, null]);
    if (kind === 5) return random.pick([{}, []]);
    if (kind === 6) return Array.from({ length: random.between(1, 4) }, () => value(depth + 1));
    return objectOf(["minorUnits", "currencyCode", "seconds", "name", random.pick(weirdTexts)], depth + 1);
  };
  /** A value that a schema allows, but for one in ten. */
  const valueFor = (schema: Schema, depth = 0): unknown => {
    if (random.chance(0.1)) return value(depth);
    const { $ref, type, format, examples, items, properties } = schema;
    if (examples !== undefined) return some(examples, "");
    if (schema.enum !== undefined) return some(schema.enum, "");
    if ($ref !== undefined) return valueFor(schemas[$ref.slice($ref.lastIndexOf("/") + 1)] ?? {}, depth + 1);
    if (items !== undefined) return Array.from({ length: random.between(1, 3) }, () => valueFor(items, depth + 1));
    if (properties !== undefined) {
      const shown = Object.entries(properties).filter(() => depth < 4 && random.chance(0.9));
      return Object.fromEntries(shown.map(([name, inner]) => [name, valueFor(inner, depth + 1)]));
    }
    if (type === "integer" || type === "number" || format === "int64") return random.between(1, 3);
    if (type === "boolean") return random.chance(0.5);
    return random.chance(0.5) ? "1" : random.pick(weirdTexts);
  };
  const objectOf = (names: readonly string[], depth = 0): Record<string, unknown> =>
    Object.fromEntries(names.filter(() => random.chance(0.6)).map((name) => [name, value(depth)]));

  /** Changes some of the bytes: flips, cuts, repeats or replaces them. */
  const mutate = (input: Buffer): Buffer => {
    let output = input;
    for (let count = random.between(1, 4); count > 0 && output.length > 0; count--) {
      const at = random.between(0, output.length - 1);
      const end = Math.min(output.length, at + random.between(1, 20));
      const [before, part, after] = [output.subarray(0, at), output.subarray(at, end), output.subarray(end)];
      output = Buffer.concat(
        random.pick([
          [before, bytes(part.length), after],
          [before, after],
          [before, part, part, part, after],
          [before, Buffer.from(random.pick(weirdTexts).slice(0, 2_000)), after],
          [before, Buffer.from(`\r\n${random.pick(weirdHeaders)}\r\n`), after],
        ]),
      );
    }
    return output;
  };

  const pathOf = (path: string): string => path.replace(/\{[^}]+\}/g, () => (random.chance(0.5) ? "kite" : segment()));
  const segment = (): string =>
    random.chance(0.4) ? random.pick(weirdSegments) : encodeURIComponent(random.pick(weirdTexts).toWellFormed()).slice(0, 3_000);
  const query = (parameters: Readonly<Record<string, Schema>>): string =>
    Object.entries(parameters)
      .filter(() => random.chance(0.5))
      .map(([name, schema]) => `${name}=${encodeURIComponent(String(valueFor(schema)).toWellFormed()).slice(0, 3_000)}`)
      .join("&");
  const authorization = (): Record<string, string> => (random.chance(0.7) ? { authorization: `Bearer ${some(tokens, "")}` } : {});

  const json = (): WholeRequest => {
    const isConnect = random.chance(0.3);
    const operation = some(operations, nothing);
    const content = isConnect ? value() : valueFor(operation.body ?? {});
    const text = JSON.stringify(content) ?? "";
    const body = Buffer.from(random.chance(0.1) ? text.slice(0, random.between(0, text.length)) : text);
    const headers = { "content-type": "application/json", ...authorization() };
    if (isConnect) return { method: "POST", path: some(methods, "/"), headers, body };
    const path = `${pathOf(operation.path)}?${query(operation.query)}`;
    return { method: operation.method, path, headers, body: operation.method === "GET" ? undefined : body };
  };

  const http1Of = ({ method, path, headers, body = Buffer.of() }: WholeRequest): Buffer => {
    const lines = Object.entries({ host: "localhost", ...headers, "content-length": String(body.length) });
    return Buffer.concat([
      Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.map(([name, text]) => `${name}: ${text}\r\n`).join("")}\r\n`),
      body,
    ]);
  };

  const frame = (type: number, flags: number, stream: number, payload: Buffer, length = payload.length): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(length & 0xffffff, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream >>> 0, 5);
    return Buffer.concat([head, payload]);
  };

  const envelopes = (): Buffer => {
    const messages = Array.from({ length: random.between(0, 4) }, () => {
      const content = random.chance(0.5) ? bytes(random.between(0, 60)) : Buffer.from(JSON.stringify(value()) ?? "");
      const head = Buffer.alloc(5);
      head[0] = random.chance(0.7) ? 0 : random.between(0, 255);
      head.writeUInt32BE(random.chance(0.8) ? content.length : random.between(0, 2 ** 32 - 1), 1);
      return Buffer.concat([head, content]);
    });
    return Buffer.concat(messages);
  };

  return {
    raw: () =>
      Buffer.concat([
        random.chance(0.3) ? Buffer.from(random.pick([preface, "GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00"])) : Buffer.of(),
        bytes(random.between(0, 2_000)),
      ]),
    http1: () => {
      const requests = Array.from({ length: random.between(1, 3) }, () =>
        http1Of(random.chance(0.5) ? json() : { method: "GET", path: "/api/hello", headers: {}, body: undefined }),
      );
      return mutate(Buffer.concat(requests));
    },
    http2: () => {
      const frames = Array.from({ length: random.between(1, 12) }, () => {
        const payload = bytes(random.between(0, 40));
        const length = random.chance(0.9) ? payload.length : random.between(0, 2 ** 24 - 1);
        return frame(random.between(0, 10), random.between(0, 255), random.pick([0, 1, 3, 2, 2 ** 31 - 1]), payload, length);
      });
      const settings = frame(4, 0, 0, Buffer.of());
      return Buffer.concat([Buffer.from(preface), settings, ...frames]);
    },
    json,
    url: () => {
      const start = random.chance(0.5) ? some(operations, nothing).path : some(methods, "/");
      const segments = Array.from({ length: random.between(0, 5) }, segment).join("/");
      return {
        method: random.pick(["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"]),
        path: `${pathOf(start)}/${segments}?${query({ a: {}, message: {}, encoding: {}, base64: {}, compression: {}, connect: {}, access_token: {} })}`,
        headers: {
          ...authorization(),
          ...(random.chance(0.3) && {
            "content-type": random.pick([
              "application/grpc",
              "application/proto",
              "application/connect+json",
              "text/plain",
              "application/grpc-web-text",
            ]),
          }),
        },
        body: undefined,
      };
    },
    grpc: () => ({
      path: some(methods, "/"),
      type: random.pick([
        "application/grpc",
        "application/grpc+proto",
        "application/grpc+json",
        "application/grpc-web",
        "application/connect+proto",
        "application/connect+json",
        "application/proto",
      ]),
      body: random.chance(0.7) ? envelopes() : mutate(Buffer.concat([Buffer.of(0, 0, 0, 0, 5, 10, 3, 65, 100, 97)])),
    }),
  };
}
