import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, createClient } from "@connectrpc/connect";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { describe, expect, onTestFinished, test } from "vitest";
import { createTestAuthority, type TestAuthority } from "../testing/certificates.ts";
import { echo } from "../testing/echo.ts";
import { eventually } from "../testing/eventually.ts";
import { failureOf } from "../testing/failure.ts";
import { createTestLog, openTestServer } from "../testing/rpc.ts";
import { testTelemetry } from "../testing/telemetry.ts";
import { openTlsFolder, type TlsFiles } from "../tls-files.ts";
import { implement } from "./implement.ts";
import { openTransport } from "./transport.ts";

describe("mutual TLS between services", () => {
  async function openFolder(folder: string) {
    const { log, logs } = createTestLog();
    const tls = await openTlsFolder(folder, log);
    onTestFinished(() => tls.close());
    return { tls, logs };
  }

  async function openCertificate(authority: TestAuthority, ...names: string[]) {
    const folder = mkdtempSync(join(tmpdir(), "parley-tls-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    await authority.issue(folder, names);
    return { folder, ...(await openFolder(folder)) };
  }

  function openClient(port: number, tls: TlsFiles | undefined) {
    const transport = openTransport({
      target: `dns:///localhost:${port}`,
      contracts: [EchoService],
      peerName: "echo",
      telemetry: testTelemetry(),
      maxMessageBytes: 4 * 1024 * 1024,
      tls,
    });
    onTestFinished(() => transport.close());
    return createClient(EchoService, transport);
  }

  const serve = (tls: TlsFiles) => openTestServer([implement(EchoService, echo)], { host: "localhost", tls });

  test("carries calls between those that have a certificate of one authority", async () => {
    const authority = await createTestAuthority();
    const server = await serve((await openCertificate(authority, "localhost")).tls);
    const client = openClient(server.port, (await openCertificate(authority, "orders")).tls);
    expect((await client.echo({ text: "secret" })).text).toBe("secret");
  });

  test("is not spoken by a client without a certificate, nor with one of another authority", async () => {
    const authority = await createTestAuthority();
    const server = await serve((await openCertificate(authority, "localhost")).tls);
    const stranger = (await openCertificate(await createTestAuthority(), "orders")).tls;
    for (const tls of [undefined, stranger]) {
      const error = await failureOf(openClient(server.port, tls).echo({}, { timeoutMs: 2_000 }));
      expect(error.code).toBe(Code.Unavailable);
    }
  });

  test("is not spoken to a server whose certificate is for another name", async () => {
    const authority = await createTestAuthority();
    const server = await serve((await openCertificate(authority, "payments")).tls);
    const client = openClient(server.port, (await openCertificate(authority, "orders")).tls);
    const error = await failureOf(client.echo({}, { timeoutMs: 2_000 }));
    expect(error.code).toBe(Code.Unavailable);
    expect(String(error.cause)).toContain("localhost");
  });

  test("goes on with new certificates when their files have some, also of a new authority", async () => {
    const before = await createTestAuthority();
    const serverSide = await openCertificate(before, "localhost");
    const clientSide = await openCertificate(before, "orders");
    const server = await serve(serverSide.tls);
    const first = openClient(server.port, clientSide.tls);
    expect((await first.echo({ text: "1" })).text).toBe("1");

    const after = await createTestAuthority();
    await after.issue(serverSide.folder, ["localhost"]);
    await after.issue(clientSide.folder, ["orders"]);
    const isNew = expect.objectContaining({ body: "new connections have a new certificate" });
    await eventually(() => expect([serverSide.logs, clientSide.logs]).toEqual([[isNew], [isNew]]));
    const second = openClient(server.port, clientSide.tls);
    expect((await second.echo({ text: "2" })).text).toBe("2");
    expect((await first.echo({ text: "3" })).text).toBe("3"); // on its connection of before
    const old = openClient(server.port, (await openCertificate(before, "orders")).tls);
    expect((await failureOf(old.echo({}, { timeoutMs: 2_000 }))).code).toBe(Code.Unavailable);
  });

  test("says so when a certificate has expired", async () => {
    const authority = await createTestAuthority();
    const folder = mkdtempSync(join(tmpdir(), "parley-tls-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    await authority.issue(folder, ["orders"], { notAfterDate: new Date(Date.now() - 1_000) });
    const { logs } = await openFolder(folder);
    expect(logs).toMatchObject([{ severity_text: "WARN", body: expect.stringMatching(/has expired: who checks it will not connect$/) }]);
  });

  test("takes a bundle of authorities, but none of which one is broken, or joined without a new line", async () => {
    const other = readFileSync(join((await openCertificate(await createTestAuthority(), "orders")).folder, "ca.crt"), "utf8").trim();
    const openWith = async (more: string) => {
      const { folder } = await openCertificate(await createTestAuthority(), "orders");
      const file = join(folder, "ca.crt");
      writeFileSync(file, `${readFileSync(file, "utf8").trim()}${more}`);
      (await openTlsFolder(folder, createTestLog().log)).close();
    };
    await openWith(`\r\n# another one\n${other}\n`);
    const broken = "\n-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n";
    for (const more of [broken, other, `\n${other.slice(0, -10)}`, "\n-----BEGIN CERTIFICATE-----\n"])
      await expect(openWith(more), more).rejects.toThrow(/cannot be used/);
  });

  test("does not start with a folder that lacks the authority", async () => {
    await expect(openTlsFolder("/nowhere", createTestLog().log)).rejects.toThrow(/nowhere.* cannot be used/);
  });
});
