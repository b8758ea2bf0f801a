import { readFileSync } from "node:fs";
import { importJWK, type JWK, SignJWT } from "jose";
import { StartError } from "../start-error.ts";
import { issuerOf } from "./authenticate.ts";

/** How long a service's token is good, and how long before its end a new one is signed. */
const lifeMs = { all: 300_000, rest: 60_000 };

/** Returns a service's own token, for the calls that it makes for nobody else. */
export type OwnToken = () => Promise<string>;

/** Creates the tokens of a service from its key, a private JWK in a file. Throws StartError where that is none. */
export function createOwnToken(serviceName: string, keyFile: string, audience: string): OwnToken {
  const jwk = readKey(keyFile);
  const issuer = issuerOf(serviceName);
  let token: Promise<string> | undefined;
  let signedMs = 0;
  const sign = async (): Promise<string> =>
    new SignJWT()
      .setProtectedHeader({ alg: jwk.alg ?? "EdDSA", kid: issuer })
      .setIssuer(issuer)
      .setSubject(issuer)
      .setAudience(audience)
      .setIssuedAt()
      .setExpirationTime(`${lifeMs.all / 1_000}s`)
      .sign(await importJWK(jwk, jwk.alg ?? "EdDSA"));
  return () => {
    const nowMs = performance.now();
    if (token === undefined || nowMs - signedMs > lifeMs.all - lifeMs.rest) {
      signedMs = nowMs;
      token = sign();
    }
    return token;
  };
}

function readKey(file: string): JWK {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new StartError(`${file} is no private key as a JWK: ${error instanceof Error ? error.message : error}`);
  }
}
