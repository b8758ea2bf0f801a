import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { brotliCompressSync, brotliDecompressSync, gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import { answerCompression } from "./compression.ts";
import { openTestGateway } from "./testing.ts";

const echoPath = "/parley.testing.v1.EchoService/Echo";

test.each([
  ["", undefined],
  ["gzip", "gzip"],
  ["GZIP", "gzip"],
  ["deflate, br;q=0.9, gzip;q=0.8", "br"],
  ["br;q=0.1, gzip;q=1.0", "gzip"],
  ["gzip;q=0", undefined],
  ["gzip;q=0.000", undefined],
  ["gzip;q=2", undefined],
  ["identity, *", undefined],
])("who accepts %j gets %s", (accepted, name) => {
  expect(answerCompression(new Headers({ "accept-encoding": accepted }))?.name).toBe(name);
});

describe("compression", () => {
  const text = "x".repeat(5_000);
  const body = JSON.stringify({ text });

  test.each([
    ["gzip", gunzipSync, gzipSync],
    ["br", brotliDecompressSync, brotliCompressSync],
  ])("by %s works for requests and answers, over REST and Connect", async (encoding, decompress, compress) => {
    const { url } = await openTestGateway();
    for (const path of ["/testing/echo", echoPath]) {
      const session = connectHttp2(url);
      onTestFinished(() => session.destroy());
      const stream = session.request({
        ":method": "POST",
        ":path": path,
        "content-type": "application/json",
        "content-encoding": encoding,
        "accept-encoding": encoding,
      });
      stream.end(compress(body));
      const [headers] = await once(stream, "response");
      expect([headers[":status"], headers["content-encoding"], headers["vary"]]).toEqual([200, encoding, "origin, accept-encoding"]);
      expect(JSON.parse(decompress(Buffer.concat(await stream.toArray())).toString())).toEqual({ text });
    }
  });

  test("what is small is left as it is", async () => {
    const { url } = await openTestGateway();
    expect((await fetch(`${url}/testing/echo/x`)).headers.get("content-encoding")).toBeNull();
  });

  test.each([
    ["/testing/echo", 413],
    [echoPath, 429],
  ])("of what would be too long is refused before it is, at %s", async (path, status) => {
    const { url } = await openTestGateway();
    const bomb = gzipSync(Buffer.alloc(100 * 2 ** 20, "x"));
    const headers = { "content-type": "application/json", "content-encoding": "gzip" };
    const response = await fetch(url + path, { method: "POST", headers, body: bomb });
    expect(response.status).toBe(status);
  });

  test.each([
    ["/testing/echo", 413],
    [echoPath, 429],
  ])("of a few bytes does not make a message of many, at %s", async (path, status) => {
    const { url } = await openTestGateway();
    const headers = { "content-type": "application/json", "content-encoding": "br" };
    const body = brotliCompressSync(JSON.stringify({ numbers: new Array(1_000_000).fill(0) }));
    const response = await fetch(url + path, { method: "POST", headers, body });
    expect([response.status, await response.text()]).toEqual([status, expect.stringContaining("262144")]);
  });

  test.each(["/testing/echo", echoPath])("that is not known, or is none, is refused at %s", async (path) => {
    const { url } = await openTestGateway();
    const post = (encoding: string, body: string): Promise<Response> =>
      fetch(url + path, { method: "POST", headers: { "content-type": "application/json", "content-encoding": encoding }, body });
    expect([415, 501]).toContain((await post("snappy", "{}")).status);
    for (const encoding of ["gzip", "br"]) expect((await post(encoding, "{}")).status).toBe(400);
  });
});
