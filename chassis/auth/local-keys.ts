import { randomUUID } from "node:crypto";
import { existsSync, linkSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { JWK } from "jose";
import type { ConfigShape } from "../config.ts";
import { makeDataFolder } from "../data-dir.ts";
import { StartError } from "../start-error.ts";
import { issuerOf } from "./authenticate.ts";
import { createKey, publicKeys, readKey } from "./key.ts";

const users = "users";
const suffix = ".private.json";

/**
 * Makes the keys that a laptop needs, where somebody checks tokens and they are missing, in the data directory: one for the
 * tokens of users, which `npm run token` signs, and one for each service. Returns where they are,
 * as those of the variables that are not set.
 */
export async function ensureLocalKeys(
  components: readonly { readonly name: string; readonly config?: ConfigShape; readonly keyVariable?: string }[],
  { env, dataDir }: { env: NodeJS.ProcessEnv; dataDir: string },
): Promise<NodeJS.ProcessEnv> {
  const signers = components.flatMap(({ name, keyVariable }) => (keyVariable === undefined ? [] : [{ name, keyVariable }]));
  const checksTokens = components.some(({ config = {}, keyVariable }) => keyVariable !== undefined || "PARLEY_AUTH_JWKS_URL" in config);
  const variables = ["PARLEY_AUTH_JWKS_URL", "PARLEY_AUTH_SERVICE_JWKS_URL", ...signers.map(({ keyVariable }) => keyVariable)];
  if (!checksTokens || variables.every((variable) => env[variable])) return {};
  const folder = keysFolder(dataDir);
  const missing = variables.filter((variable) => !env[variable]).join(", ");
  makeDataFolder(dataDir, missing); // the user of Postgres passes through it
  makeDataFolder(folder, missing, { mode: 0o700 });
  const made: NodeJS.ProcessEnv = {};
  if (!env["PARLEY_AUTH_JWKS_URL"]) {
    await ensureKey(folder, users, users);
    made["PARLEY_AUTH_JWKS_URL"] = publish(folder, "users.public.json", () => [fileOf(folder, users)]);
  }
  for (const { name, keyVariable } of signers) {
    if (env[keyVariable]) continue;
    await ensureKey(folder, name, issuerOf(name));
    made[keyVariable] = fileOf(folder, name);
  }
  if (!env["PARLEY_AUTH_SERVICE_JWKS_URL"]) {
    const given = signers.flatMap(({ keyVariable }) => env[keyVariable] || []);
    made["PARLEY_AUTH_SERVICE_JWKS_URL"] = publish(folder, "services.public.json", () => [...serviceKeyFiles(folder), ...given]);
  }
  return made;
}

/** Returns the key of users' tokens of a suite on this machine. Throws StartError where there is none. */
export function localUsersKey(dataDir: string): JWK {
  const file = fileOf(keysFolder(dataDir), users);
  if (existsSync(file)) return readKey(file);
  throw new StartError(`there is no key in ${file}: start the suite once, which makes it, or get tokens from your own issuer`);
}

function serviceKeyFiles(folder: string): string[] {
  const files = readdirSync(folder).filter((file) => file.endsWith(suffix) && file !== `${users}${suffix}`);
  return files.map((file) => join(folder, file));
}

function keysFolder(dataDir: string): string {
  return join(resolve(dataDir), "keys");
}

function fileOf(folder: string, name: string): string {
  return join(folder, `${name}${suffix}`);
}

/** Makes a key where there is none; of several processes that do so at once, one wins. */
async function ensureKey(folder: string, name: string, kid: string): Promise<void> {
  const file = fileOf(folder, name);
  if (existsSync(file)) return;
  const aside = `${file}.${randomUUID()}`; // each container's process has the id 1
  writeFileSync(aside, JSON.stringify(await createKey(kid)), { mode: 0o600 });
  try {
    linkSync(aside, file);
  } catch (error) {
    if (!existsSync(file)) throw error;
  } finally {
    rmSync(aside);
  }
}

/** Writes the public halves of keys as a JWKS, and returns its URL. Of processes that do so at once, the last one writes the keys of all. */
function publish(folder: string, file: string, listFiles: () => readonly string[]): string {
  const path = join(folder, file);
  for (let files = listFiles(); ; ) {
    const aside = `${path}.${randomUUID()}`;
    const keys = new Map(files.map(readKey).map((key) => [key.kid, key])); // one that is given may be of this folder
    const text = JSON.stringify(publicKeys([...keys.values()]), null, 2);
    if (!existsSync(path) || readFileSync(path, "utf8") !== text) {
      writeFileSync(aside, text);
      renameSync(aside, path);
    }
    const before = files.length;
    files = listFiles();
    if (files.length === before) return pathToFileURL(path).href;
  }
}
