import { createPublicKey } from "node:crypto";
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from "jose";
import type { ConfigShape } from "../config.ts";
import { StartError } from "../start-error.ts";
import { issuerOf } from "./authenticate.ts";

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
  if (!checksTokens) return {};
  const folder = keysFolder(dataDir);
  mkdirSync(dataDir, { recursive: true }); // the user of Postgres passes through it
  mkdirSync(folder, { recursive: true, mode: 0o700 });
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

function serviceKeyFiles(folder: string): string[] {
  const files = readdirSync(folder).filter((file) => file.endsWith(suffix) && file !== `${users}${suffix}`);
  return files.map((file) => join(folder, file));
}

/** Signs a user's token with the laptop's key. Throws StartError where there is none. */
export async function signUserToken(
  dataDir: string,
  claims: {
    readonly subject: string;
    readonly roles: readonly string[];
    readonly issuer: string;
    readonly audience: string;
    readonly seconds: number;
  },
): Promise<string> {
  const file = fileOf(keysFolder(dataDir), users);
  if (!existsSync(file))
    throw new StartError(`there is no key in ${file}: start the suite once, which makes it, or get tokens from your own issuer`);
  const key = readKey(file);
  return new SignJWT({ roles: claims.roles })
    .setProtectedHeader({ alg: "EdDSA", kid: users })
    .setIssuer(claims.issuer)
    .setAudience(claims.audience)
    .setSubject(claims.subject)
    .setIssuedAt()
    .setExpirationTime(`${claims.seconds}s`)
    .sign(await importJWK(key, "EdDSA"));
}

function keysFolder(dataDir: string): string {
  return join(resolve(dataDir), "keys");
}

function fileOf(folder: string, name: string): string {
  return join(folder, `${name}${suffix}`);
}

function readKey(file: string): JWK {
  return JSON.parse(readFileSync(file, "utf8"));
}

/** Makes a key where there is none; of several processes that do so at once, one wins. */
async function ensureKey(folder: string, name: string, kid: string): Promise<void> {
  const file = fileOf(folder, name);
  if (existsSync(file)) return;
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true });
  const aside = `${file}.${process.pid}`;
  writeFileSync(aside, JSON.stringify({ ...(await exportJWK(privateKey)), alg: "EdDSA", kid }), { mode: 0o600 });
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
    const keys = files.map((keyFile) => {
      const key = readKey(keyFile);
      return { ...createPublicKey({ key, format: "jwk" }).export({ format: "jwk" }), kid: key.kid, alg: key.alg, use: "sig" };
    });
    writeFileSync(`${path}.${process.pid}`, JSON.stringify({ keys }, null, 2));
    renameSync(`${path}.${process.pid}`, path);
    const before = files.length;
    files = listFiles();
    if (files.length === before) return pathToFileURL(path).href;
  }
}
