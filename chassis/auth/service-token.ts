import { importJWK, SignJWT } from "jose";
import { StartError } from "../start-error.ts";
import { algorithms, isKeyOf, issuerOf } from "./authenticate.ts";
import { readKey } from "./key.ts";

/** How long a service's token is good, and how long before its end a new one is signed. */
const lifeMs = { all: 300_000, rest: 60_000 };

/** Returns a service's own token, for the calls that it makes for nobody else. */
export type ServiceToken = () => Promise<string>;

/** Creates the tokens of a service from its key, a private JWK in a file. Throws StartError where that is none that it can sign with. */
export async function createServiceToken(serviceName: string, keyFile: string, audience: string): Promise<ServiceToken> {
  const issuer = issuerOf(serviceName);
  const { alg = "EdDSA", kid = issuer, ...jwk } = readKey(keyFile);
  if (!algorithms.includes(alg))
    throw new StartError(`${keyFile}: its alg is ${alg}, which nobody takes; expected ${algorithms.join(", ")}`);
  if (!isKeyOf(issuer, kid)) throw new StartError(`${keyFile}: its kid is ${kid}; expected ${issuer}, or ${issuer}. and anything`);
  const key = await importJWK(jwk, alg).catch((error: unknown) => {
    throw unusable(keyFile, error);
  });
  let token = "";
  let renewMs = 0;
  const renew = async (): Promise<void> => {
    const nowMs = Date.now();
    token = await new SignJWT()
      .setIssuer(issuer)
      .setSubject(issuer)
      .setAudience(audience)
      .setIssuedAt()
      .setProtectedHeader({ alg, kid })
      .setExpirationTime(new Date(nowMs + lifeMs.all))
      .sign(key);
    renewMs = nowMs + lifeMs.all - lifeMs.rest;
  };
  await renew().catch((error: unknown) => {
    throw unusable(keyFile, error);
  });
  return async () => {
    // On the wall clock, by which its end is told: a machine that slept needs a new one.
    if (Date.now() >= renewMs) await renew();
    return token;
  };
}

function unusable(keyFile: string, error: unknown): StartError {
  return new StartError(`${keyFile} cannot sign: ${error instanceof Error ? error.message : error}`);
}
