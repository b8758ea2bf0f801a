import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from "jose";
import { StartError } from "../start-error.ts";

/**
 * Creates a private key of Ed25519 as a JWK (RFC 7517, RFC 8037). Its `kid` is the owner's name with the key's thumbprint
 * (RFC 7638), which tells it from the owner's other ones: two are good while they change.
 */
export async function createKey(owner: string): Promise<JWK> {
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true });
  const jwk = await exportJWK(privateKey);
  return { ...jwk, alg: "EdDSA", kid: `${owner}.${await calculateJwkThumbprint(jwk)}` };
}

/** Reads a private key from a file. Throws StartError where it holds none. */
export function readKey(file: string): JWK {
  try {
    const key: JWK = JSON.parse(readFileSync(file, "utf8"));
    publicHalf(key);
    if (key.d === undefined) throw new Error("it is not private");
    if (key.kid !== undefined && typeof key.kid !== "string") throw new Error("its kid is no text");
    return key;
  } catch (error) {
    throw new StartError(`${file} is no private key as a JWK: ${error instanceof Error ? error.message : error}`);
  }
}

/** Reads a private key, or the keys of a set, from a file. Throws StartError where it holds neither. */
export function readKeys(file: string): readonly JWK[] {
  const keys = findSet(file);
  if (keys === undefined) return [readKey(file)];
  try {
    if (keys.length === 0) throw new Error("it has no keys");
    return publicKeys(keys).keys;
  } catch (error) {
    throw new StartError(`${file} is no set of keys: ${error instanceof Error ? error.message : error}`);
  }
}

/** Returns the set of keys (JWKS) by which what these ones, or their private halves, sign is checked. */
export function publicKeys(keys: readonly JWK[]): { keys: JWK[] } {
  return {
    keys: keys.map((key) => ({ ...publicHalf(key), ...(key.kid && { kid: key.kid }), ...(key.alg && { alg: key.alg }), use: "sig" })),
  };
}

/** Signs a user's token. */
export async function signUserToken(
  key: JWK,
  claims: {
    readonly subject: string;
    readonly roles: readonly string[];
    readonly issuer: string;
    readonly audience: string;
    readonly seconds: number;
  },
): Promise<string> {
  const alg = key.alg ?? "EdDSA";
  return new SignJWT({ roles: claims.roles })
    .setProtectedHeader({ alg, ...(key.kid && { kid: key.kid }) })
    .setIssuer(claims.issuer)
    .setAudience(claims.audience)
    .setSubject(claims.subject)
    .setIssuedAt()
    .setExpirationTime(`${claims.seconds}s`)
    .sign(await importJWK(key, alg));
}

function findSet(file: string): readonly JWK[] | undefined {
  try {
    const { keys }: { keys?: JWK[] } = JSON.parse(readFileSync(file, "utf8"));
    return Array.isArray(keys) ? keys : undefined;
  } catch {
    return undefined; // readKey() says why
  }
}

function publicHalf(key: JWK): JWK {
  return createPublicKey({ key, format: "jwk" }).export({ format: "jwk" });
}
