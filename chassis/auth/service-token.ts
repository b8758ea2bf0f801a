import { importJWK, SignJWT } from "jose";
import { issuerOf } from "./authenticate.ts";
import { readKey } from "./key.ts";

/** How long a service's token is good, and how long before its end a new one is signed. */
const lifeMs = { all: 300_000, rest: 60_000 };

/** Returns a service's own token, for the calls that it makes for nobody else. */
export type ServiceToken = () => Promise<string>;

/** Creates the tokens of a service from its key, a private JWK in a file. Throws StartError where that is none. */
export async function createServiceToken(serviceName: string, keyFile: string, audience: string): Promise<ServiceToken> {
  const issuer = issuerOf(serviceName);
  const { alg = "EdDSA", kid = issuer, ...jwk } = readKey(keyFile);
  const key = await importJWK(jwk, alg);
  let token = "";
  let renewMs = 0;
  return async () => {
    // On the wall clock, by which its end is told: a machine that slept needs a new one.
    if (Date.now() >= renewMs) {
      const claims = new SignJWT().setIssuer(issuer).setSubject(issuer).setAudience(audience).setIssuedAt();
      const nowMs = Date.now();
      token = await claims
        .setProtectedHeader({ alg, kid })
        .setExpirationTime(new Date(nowMs + lifeMs.all))
        .sign(key);
      renewMs = nowMs + lifeMs.all - lifeMs.rest;
    }
    return token;
  };
}
