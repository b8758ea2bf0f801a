import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { exportJWK, generateKeyPair } from "jose";
import { expect, onTestFinished, test } from "vitest";
import { openKeySet } from "./key-set.ts";

/** A set that is served over HTTP or in a file, to which keys can be added. */
async function openServed(scheme: string) {
  const keys: object[] = [];
  if (scheme === "file") {
    const folder = mkdtempSync(join(tmpdir(), "parley-keys-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const path = join(folder, "keys.json");
    return {
      url: pathToFileURL(path).href,
      async add(kid: string) {
        keys.push({ ...(await exportJWK((await generateKeyPair("EdDSA", { extractable: true })).publicKey)), kid, alg: "EdDSA" });
        writeFileSync(path, JSON.stringify({ keys }));
      },
    };
  }
  const server = createServer((_request, response) => void response.end(JSON.stringify({ keys }))).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  onTestFinished(() => void server.close());
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    async add(kid: string) {
      keys.push({ ...(await exportJWK((await generateKeyPair("EdDSA", { extractable: true })).publicKey)), kid, alg: "EdDSA" });
    },
  };
}

const token = { payload: "", signature: "" };
const has = (set: ReturnType<typeof openKeySet>, kid: string): Promise<boolean> =>
  Promise.resolve(set({ alg: "EdDSA", kid }, token)).then(
    () => true,
    () => false,
  );

test.each(["http", "file"])(
  "a key that is new is found in a set over %s, for the set is read again when a token names it",
  async (scheme) => {
    const { url, add } = await openServed(scheme);
    await add("one");
    const set = openKeySet(url, 0);
    expect([await has(set, "one"), await has(set, "two")]).toEqual([true, false]);
    await add("two");
    expect(await has(set, "two")).toBe(true);
  },
);

test.each(["http", "file"])("a set over %s is not read again for each key that is made up", async (scheme) => {
  const { url, add } = await openServed(scheme);
  await add("one");
  const set = openKeySet(url, 60_000);
  expect(await has(set, "one")).toBe(true);
  await add("two");
  expect(await has(set, "two")).toBe(false);
});
