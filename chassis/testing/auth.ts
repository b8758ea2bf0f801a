import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Authenticate, authConfig, createAuthenticate } from "../auth/authenticate.ts";
import { signUserToken } from "../auth/key.ts";
import { ensureLocalKeys, localUsersKey } from "../auth/local-keys.ts";
import { createServiceToken } from "../auth/service-token.ts";
import { readConfig } from "../config.ts";

/** The keys of a test file, and what is signed with them. */
export interface TestAuth {
  readonly dataDir: string;
  readonly authenticate: Authenticate;
}

let made: Promise<TestAuth> | undefined;
const dataDir = mkdtempSync(join(tmpdir(), "parley-keys-"));
process.once("exit", () => rmSync(dataDir, { recursive: true, force: true }));

/** Returns what checks the tokens of tests. */
export function testAuth(): Promise<TestAuth> {
  made ??= (async () => {
    const env = await ensureLocalKeys([{ name: "test", keyVariable: "PARLEY_TEST_KEY_FILE" }], { env: {}, dataDir });
    return { dataDir, authenticate: createAuthenticate(readConfig(authConfig, env)) };
  })();
  return made;
}

/** The options of a call that a user makes. */
export async function asUser(subject: string, ...roles: ("customer" | "staff")[]): Promise<{ headers: { authorization: string } }> {
  await testAuth();
  const token = await signUserToken(localUsersKey(dataDir), { subject, roles, issuer: "parley", audience: "parley", seconds: 300 });
  return { headers: { authorization: `Bearer ${token}` } };
}

/** The options of a call that a service makes for nobody else. */
export async function asService(): Promise<{ headers: { authorization: string } }> {
  await testAuth();
  const token = await (await createServiceToken("test", join(dataDir, "keys", "test.private.json"), "parley"))();
  return { headers: { authorization: `Bearer ${token}` } };
}
