import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { authConfig, createAuthenticate } from "@parley/chassis/auth/authenticate.ts";
import { createServiceToken } from "@parley/chassis/auth/service-token.ts";
import { readConfig } from "@parley/chassis/config.ts";
import { Access } from "@parley/gen/parley/options/v1/options_pb.js";
import { expect, onTestFinished, test } from "vitest";

async function run(tool: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [join(import.meta.dirname, tool), ...args]);
  return stdout;
}

test("keys that it makes sign tokens that are taken by the set that it prints, which has no private half", async () => {
  const folder = mkdtempSync(join(tmpdir(), "parley-keys-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const orders = [write("1.json", await run("key.ts", "--service", "orders")), write("2.json", await run("key.ts", "--service", "orders"))];
  const users = write("users.private.json", await run("key.ts", "--users"));
  const first = write("first.json", await run("key.ts", "--public", orders[0]!));
  const published = await run("key.ts", "--public", first, orders[1]!);
  expect(published).not.toContain('"d"');
  const config = {
    PARLEY_AUTH_JWKS_URL: `file://${write("users.json", await run("key.ts", "--public", users))}`,
    PARLEY_AUTH_SERVICE_JWKS_URL: `file://${write("services.json", published)}`,
  };
  const authenticate = createAuthenticate(readConfig(authConfig, config));
  for (const file of orders) {
    const token = await (await createServiceToken("orders", file, "parley"))();
    expect(await authenticate(`Bearer ${token}`)).toMatchObject({ subject: "orders" });
  }
  const alice = (await run("token.ts", "--key", users, "--subject", "alice", "--role", "customer")).trim();
  expect(await authenticate(`Bearer ${alice}`)).toEqual({ subject: "alice", roles: new Set([Access.CUSTOMER]) });
});

test("what is wrong with its arguments is told", async () => {
  await expect(run("key.ts")).rejects.toThrow(/\nusage: /);
  await expect(run("key.ts", "--service", "ordrs")).rejects.toThrow(/\nthere is no service ordrs; there are greeter, /);
  const file = join(mkdtempSync(join(tmpdir(), "parley-keys-")), "key.json");
  onTestFinished(() => rmSync(join(file, ".."), { recursive: true }));
  writeFileSync(file, await run("key.ts", "--users"));
  await expect(run("key.ts", "--public", file, file)).rejects.toThrow(/\ntwo keys have the kid users\./);
  await expect(run("key.ts", "--public", "/dev/null")).rejects.toThrow(/\n\/dev\/null is no private key as a JWK/);
});
