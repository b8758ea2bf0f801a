import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { createTestLog } from "@parley/chassis/testing/rpc.ts";
import { openTlsFiles } from "@parley/chassis/tls-files.ts";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { generate } from "selfsigned";
import { describe, expect, onTestFinished, test } from "vitest";
import { openTestGateway } from "./testing.ts";

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
    expect((await handshake(port, ["h2", "http/1.1"])).protocol).toBe("h2");
    const transport = createGrpcTransport({ baseUrl: `https://127.0.0.1:${port}`, nodeOptions: { rejectUnauthorized: false } });
    expect((await createClient(EchoService, transport).echo({ text: "over TLS" })).text).toBe("over TLS");
  });

  test("has a new certificate when its files have one", async () => {
    const { env, use } = await makeCertificates();
    const { port } = await openTestGateway({ env });
    const before = await handshake(port, ["http/1.1"]);
    expect(before.name).toBe("first");
    use("second");
    await eventually(async () => expect((await handshake(port, ["h2"])).name).toBe("second"));
    use("first");
    await eventually(async () => expect((await handshake(port, ["h2"])).name).toBe("first"));
    before.socket.write("GET /testing/echo/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    expect((await before.socket.setEncoding("utf8").toArray()).join("")).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });

  test.each(["none", ""])("goes on with the certificate before while its file says %j, and tells so once", async (broken) => {
    const { env, folder } = await makeCertificates();
    const { log, logs } = createTestLog();
    const files = await openTlsFiles({ cert: env.PARLEY_GATEWAY_TLS_CERT_FILE, key: env.PARLEY_GATEWAY_TLS_KEY_FILE }, log);
    onTestFinished(() => files.close());
    const before = files.context;
    writeFileSync(join(folder, "first.crt"), broken);
    await eventually(() => expect(logs).toMatchObject([{ severity_text: "WARN", body: expect.stringContaining("cannot be used") }]));
    expect(files.context).toBe(before);
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
    [{ PARLEY_GATEWAY_TLS_CERT_FILE: "/dev/null", PARLEY_GATEWAY_TLS_KEY_FILE: "/dev/null" }, /cannot be used/],
    [{ PARLEY_GATEWAY_TLS_CERT_FILE: "/nowhere.crt" }, /are set together/],
    [{ PARLEY_GATEWAY_TLS_CERT_FILE: "/nowhere.crt", PARLEY_GATEWAY_TLS_KEY_FILE: "/nowhere.key" }, /cannot be used: .*nowhere/],
  ])("does not start with %j", async (env, message) => {
    await expect(openTestGateway({ env })).rejects.toThrow(message);
  });
});
