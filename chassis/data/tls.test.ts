import { execFileSync } from "node:child_process";
import { chownSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sql } from "kysely";
import { generate } from "selfsigned";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { makeDataDir } from "../testing/data-dir.ts";
import { testDatabaseOptions } from "../testing/database-options.ts";
import { findFreePorts } from "../testing/ports.ts";
import { createTestLog } from "../testing/rpc.ts";
import { openDatabase } from "./database.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "./embedded-postgres.ts";

const host = "127.0.0.1";
let port: number;
let dataDir: string;
let postgres: EmbeddedPostgres;
let passwordOf: string;

beforeAll(async () => {
  port = await findFreePorts(1);
  dataDir = makeDataDir();
  for (const name of ["server", "other"]) {
    const { cert, private: key } = await generate([{ name: "commonName", value: "parley" }], {
      extensions: [{ name: "subjectAltName", altNames: [{ type: 7, ip: host }] }],
    });
    writeFileSync(join(dataDir, `${name}.crt`), cert);
    writeFileSync(join(dataDir, `${name}.key`), key, { mode: 0o600 });
  }
  // As root, the server is `nobody`, who must own its key.
  if (process.getuid?.() === 0) chownSync(join(dataDir, "server.key"), Number(execFileSync("id", ["-u", "nobody"])), -1);
  postgres = await startEmbeddedPostgres({
    dataDir,
    maxConnections: 20,
    port,
    settings: [
      `listen_addresses=${host}`,
      "ssl=on",
      `ssl_cert_file=${join(dataDir, "server.crt")}`,
      `ssl_key_file=${join(dataDir, "server.key")}`,
    ],
    log: createTestLog().log,
  });
  passwordOf = new URL((await postgres.ensureDatabase("shop")).replace(/@.*/, "@x")).password;
});
afterAll(async () => {
  await postgres.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

function open(query: string) {
  const database = openDatabase<unknown>(testDatabaseOptions(`postgres://shop:${passwordOf}@${host}:${port}/shop?${query}`));
  onTestFinished(() => database.close());
  return async () => {
    const { rows } = await sql<{ ssl: boolean }>`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`.execute(database.db);
    return rows[0]?.ssl;
  };
}

test("a URL with sslmode=verify-full and the server's certificate connects by TLS", async () => {
  expect(await open(`sslmode=verify-full&sslrootcert=${join(dataDir, "server.crt")}`)()).toBe(true);
});

test("a server whose certificate is another one is refused", async () => {
  await expect(open(`sslmode=verify-full&sslrootcert=${join(dataDir, "other.crt")}`)()).rejects.toThrow(/certificate/);
});

test("sslmode=no-verify connects by TLS whatever the certificate, and sslmode=disable without", async () => {
  expect(await open("sslmode=no-verify")()).toBe(true);
  expect(await open("sslmode=disable")()).toBe(false);
});
