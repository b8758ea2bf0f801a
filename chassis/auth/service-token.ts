import { readFileSync } from "node:fs";
import { type CryptoKey, importJWK, type JWK, SignJWT } from "jose";
import { StartError } from "../start-error.ts";
import { issuerOf } from "./authenticate.ts";

/** How long a service's token is good, and how long before its end a new one is signed. */
const lifeMs = { all: 300_000, rest: 60_000 };

/** Returns a service's own token, for the calls that it makes for nobody else. */
export type ServiceToken = () => Promise<string>;

/** Creates the tokens of a service from its key, a private JWK in a file. Throws StartError where that is none. */
export async function createServiceToken(serviceName: string, keyFile: string, audience: string): Promise<ServiceToken> {
  const { key, alg } = await readKey(keyFile);
  const issuer = issuerOf(serviceName);
  let token = "";
  let renewMs = 0;
  return async () => {
    // On the wall clock, by which its end is told: a machine that slept needs a new one.
    if (Date.now() >= renewMs) {
      const claims = new SignJWT().setIssuer(issuer).setSubject(issuer).setAudience(audience).setIssuedAt();
      const nowMs = Date.now();
      token = await claims
        .setProtectedHeader({ alg, kid: issuer })
        .setExpirationTime(new Date(nowMs + lifeMs.all))
        .sign(key);
      renewMs = nowMs + lifeMs.all - lifeMs.rest;
    }
    return token;
  };
}

async function readKey(file: string): Promise<{ key: CryptoKey; alg: string }> {
  try {
    const jwk: JWK = JSON.parse(readFileSync(file, "utf8"));
    const alg = jwk.alg ?? "EdDSA";
    const key = await importJWK(jwk, alg);
    if (key instanceof Uint8Array || key.type !== "private") throw new Error("it is not private");
    return { key, alg };
  } catch (error) {
    throw new StartError(`${file} is no private key as a JWK: ${error instanceof Error ? error.message : error}`);
  }
}
