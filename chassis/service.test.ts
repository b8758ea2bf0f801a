import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Code, createClient } from "@connectrpc/connect";
import { EchoService } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, onTestFinished, test } from "vitest";
import { type Database, defineDatabase } from "./data/database.ts";
import { implement } from "./rpc/implement.ts";
import { startProcess } from "./serve.ts";
import { type Component, defineService } from "./service.ts";
import { testAuth } from "./testing/auth.ts";
import { createTestDatabase } from "./testing/database.ts";
import { echo } from "./testing/echo.ts";
import { eventually } from "./testing/eventually.ts";
import { failureOf } from "./testing/failure.ts";
import { findFreePorts } from "./testing/ports.ts";
import { openTestTransport } from "./testing/rpc.ts";

interface Tables {
  said: { text: string };
}

function makeFolder(parent: string): string {
  const folder = mkdtempSync(join(parent, "parley-test-"));
  chmodSync(folder, 0o755); // for the user of Postgres, when we are root
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A service that keeps what is said to it, and answers with how often it was said. */
function defineKeeper(): Component {
  const migrations = makeFolder(tmpdir());
  writeFileSync(
    join(migrations, "0001_create_said.ts"),
    'export const up = (db) => db.schema.createTable("said").addColumn("text", "text").execute();',
  );
  const keep = (database: Database<Tables>): Partial<typeof echo> => ({
    async echo({ text }) {
      const rows = await database.transaction(async (tx) => {
        await tx.insertInto("said").values({ text }).execute();
        return tx.selectFrom("said").selectAll().where("text", "=", text).execute();
      });
      return { text: String(rows.length) };
    },
  });
  return defineService({
    name: "testing",
    config: {},
    database: defineDatabase<Tables>({ migrations: pathToFileURL(`${migrations}/`) }),
    start: ({ database }) => ({ handlers: [implement(EchoService, { ...echo, ...keep(database) })] }),
  });
}

async function startKeeper(env: NodeJS.ProcessEnv = {}) {
  const port = await findFreePorts(2);
  const dataDir = makeFolder("/var/tmp");
  const running = await startProcess([defineKeeper()], {
    PARLEY_GRPC_BASE_PORT: String(port),
    PARLEY_ADMIN_BASE_PORT: String(port + 1),
    PARLEY_DATA_DIR: dataDir,
    PARLEY_LOG_LEVEL: "silent",
    ...env,
  });
  onTestFinished(() => running.stop());
  const serverPid = () => Number(readFileSync(join(dataDir, "postgres/data/postmaster.pid"), "utf8").split("\n")[0]);
  return { client: createClient(EchoService, openTestTransport([port], { retries: false })), dataDir, serverPid };
}

test("a service with a database and no URL for it gets an embedded one, at its newest schema", async () => {
  const { client } = await startKeeper();
  expect((await client.echo({ text: "hello" })).text).toBe("1");
  expect((await client.echo({ text: "hello" })).text).toBe("2");
});

test("a database that dies is UNAVAILABLE for the calls meanwhile, and the service recovers by itself", async () => {
  const { client, serverPid } = await startKeeper();
  await client.echo({ text: "before" });
  process.kill(serverPid(), "SIGKILL");
  const error = await eventually(() => failureOf(client.echo({ text: "meanwhile" })));
  expect(error).toMatchObject({ code: Code.Unavailable, rawMessage: "the service cannot reach its database; try again" });
  await eventually(() => client.echo({ text: "after" }));
  expect((await client.echo({ text: "before" })).text).toBe("2");
});

test("with a URL of one's own nothing embedded is started", async () => {
  const { url } = await createTestDatabase();
  const { client, dataDir } = await startKeeper({ PARLEY_TESTING_DATABASE_URL: url });
  expect((await client.echo({ text: "hello" })).text).toBe("1");
  expect(readdirSync(dataDir)).toEqual(["keys"]);
});

test("a service that uses a database without naming one does not start, and says so", async () => {
  const careless = defineService({
    name: "testing",
    config: {},
    start: ({ database }) => ({ handlers: [implement(EchoService, { ...echo, secret: () => (database ? {} : {}) })] }),
  });
  const port = await findFreePorts(2);
  const env = {
    PARLEY_GRPC_BASE_PORT: String(port),
    PARLEY_ADMIN_BASE_PORT: String(port + 1),
    PARLEY_DATA_DIR: (await testAuth()).dataDir,
  };
  await expect(startProcess([careless], env)).rejects.toThrow("testing uses a database, but its definition names none");
});
