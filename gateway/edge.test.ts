import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { brotliCompressSync, brotliDecompressSync, gunzipSync, gzipSync } from "node:zlib";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { ServerReflection } from "@parley/gen/grpc/reflection/v1/reflection_pb.js";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { generate } from "selfsigned";
import { describe, expect, onTestFinished, test } from "vitest";
import { openTestGateway } from "./testing.ts";

const echoPath = "/parley.testing.v1.EchoService/Echo";

describe("an answer to GET", () => {
  test.each([
    ["REST", "/testing/echo/x"],
    ["Connect", `${echoPath}?encoding=json&message=${encodeURIComponent('{"text":"x"}')}`],
    ["Connect, binary", `${echoPath}?encoding=proto&base64=1&message=CgF4`],
  ])("over %s has a tag, and is not sent again to who has it", async (_title, path) => {
    const { url } = await openTestGateway();
    const first = await fetch(url + path);
    const etag = first.headers.get("etag") ?? "";
    expect([first.status, etag, first.headers.get("cache-control")]).toEqual([
      200,
      expect.stringMatching(/^"[\w-]+"$/),
      "private, no-cache",
    ]);
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
      const again = await fetch(url + path, { headers: { "if-none-match": known }, cache: "no-store" });
      expect([again.status, await again.text(), again.headers.get("etag")]).toEqual([304, "", etag]);
    }
    expect((await fetch(url + path, { headers: { "if-none-match": '"other"' } })).status).toBe(200);
  });

  test("that is an error is kept by no cache either, and has no tag", async () => {
    const { url } = await openTestGateway();
    const { headers } = await fetch(`${url}/nothing`);
    expect([headers.get("cache-control"), headers.get("etag")]).toEqual(["private, no-cache", null]);
  });
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

  test.each(["/testing/echo", echoPath])("of what would be too long is refused before it is, at %s", async (path) => {
    const { url } = await openTestGateway();
    const bomb = gzipSync(Buffer.alloc(100 * 2 ** 20, "x"));
    const headers = { "content-type": "application/json", "content-encoding": "gzip" };
    const response = await fetch(url + path, { method: "POST", headers, body: bomb });
    expect([response.status, await response.text()]).toEqual([429, expect.stringContaining("4194304")]);
  });

  test.each(["/testing/echo", echoPath])("that is not known, or is none, is refused at %s", async (path) => {
    const { url } = await openTestGateway();
    const post = (encoding: string, body: string): Promise<Response> =>
      fetch(url + path, { method: "POST", headers: { "content-type": "application/json", "content-encoding": encoding }, body });
    expect([415, 501]).toContain((await post("snappy", "{}")).status);
    expect((await post("gzip", "{}")).status).toBe(400);
  });
});

describe("TLS", () => {
  /** Makes a folder whose files are links to a certificate and its key, as a mounted Secret of Kubernetes has them. */
  async function makeCertificates() {
    const folder = mkdtempSync(join(tmpdir(), "parley-tls-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const write = async (name: string): Promise<void> => {
      const { cert, private: key } = await generate([{ name: "commonName", value: name }]);
      writeFileSync(join(folder, `${name}.crt`), cert);
      writeFileSync(join(folder, `${name}.key`), key, { mode: 0o600 });
    };
    const use = (name: string): void => {
      for (const kind of ["crt", "key"]) {
        symlinkSync(`${name}.${kind}`, join(folder, "next"));
        renameSync(join(folder, "next"), join(folder, `tls.${kind}`));
      }
    };
    await write("first");
    await write("second");
    use("first");
    const env = { PARLEY_GATEWAY_TLS_CERT_FILE: join(folder, "tls.crt"), PARLEY_GATEWAY_TLS_KEY_FILE: join(folder, "tls.key") };
    return { folder, use, env };
  }

  async function handshake(port: number, protocols: string[]) {
    const socket = connectTls({ port, host: "127.0.0.1", ALPNProtocols: protocols, rejectUnauthorized: false });
    await once(socket, "secureConnect");
    return { socket, protocol: socket.alpnProtocol, name: socket.getPeerCertificate().subject.CN };
  }

  test("carries HTTP/2 and HTTP/1.1 by what the client offers", async () => {
    const { env } = await makeCertificates();
    const { port } = await openTestGateway({ env });
    const { socket, protocol } = await handshake(port, ["http/1.1"]);
    expect(protocol).toBe("http/1.1");
    socket.write("GET /testing/echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    const answer = (await socket.setEncoding("utf8").toArray()).join("");
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer).toMatch(/strict-transport-security: max-age=\d+/);
    expect((await handshake(port, ["h2", "http/1.1"])).protocol).toBe("h2");
    const transport = createGrpcTransport({ baseUrl: `https://127.0.0.1:${port}`, nodeOptions: { rejectUnauthorized: false } });
    expect((await createClient(EchoService, transport).echo({ text: "over TLS" })).text).toBe("over TLS");
  });

  test("has a new certificate when its files have one, and the old one while they fit no key", async () => {
    const { env, use, folder } = await makeCertificates();
    const { port } = await openTestGateway({ env });
    const before = await handshake(port, ["http/1.1"]);
    expect(before.name).toBe("first");
    use("second");
    await eventually(async () => expect((await handshake(port, ["h2"])).name).toBe("second"));
    writeFileSync(join(folder, "second.crt"), "none");
    expect((await handshake(port, ["h2"])).name).toBe("second");
    use("first");
    await eventually(async () => expect((await handshake(port, ["h2"])).name).toBe("first"));
    before.socket.write("GET /testing/echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    expect((await before.socket.setEncoding("utf8").toArray()).join("")).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });

  test("is not talked to without it, nor by who says nothing", async () => {
    const { env } = await makeCertificates();
    const { port, url } = await openTestGateway({ env: { ...env, PARLEY_GATEWAY_HEADER_TIMEOUT: "200ms" } });
    await expect(fetch(`${url}/testing/echo/x`)).rejects.toThrow();
    const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: ["unknown"] });
    await new Promise((resolve) => socket.on("error", () => {}).once("close", resolve));
    const silent = connectTcp(port, "127.0.0.1");
    await once(silent.resume(), "close");
    expect((await handshake(port, ["h2"])).protocol).toBe("h2");
  });

  test.each([
    [{ PARLEY_GATEWAY_TLS_CERT_FILE: "/nowhere.crt" }, /are set together/],
    [{ PARLEY_GATEWAY_TLS_CERT_FILE: "/nowhere.crt", PARLEY_GATEWAY_TLS_KEY_FILE: "/nowhere.key" }, /cannot be used: .*nowhere/],
  ])("does not start with %j", async (env, message) => {
    await expect(openTestGateway({ env })).rejects.toThrow(message);
  });
});

test("the gateway describes its contracts where that is configured, and nowhere else", async () => {
  const list = async (env: NodeJS.ProcessEnv): Promise<string[]> => {
    const { url } = await openTestGateway({ env });
    const client = createClient(ServerReflection, createGrpcTransport({ baseUrl: url }));
    async function* question() {
      yield { messageRequest: { case: "listServices" as const, value: "" } };
    }
    for await (const { messageResponse } of client.serverReflectionInfo(question()))
      if (messageResponse.case === "listServicesResponse") return messageResponse.value.service.map(({ name }) => name);
    return [];
  };
  expect(await list({ PARLEY_GATEWAY_REFLECTION: "on" })).toContain("parley.testing.v1.EchoService");
  await expect(list({})).rejects.toThrow(/unimplemented/);
});
