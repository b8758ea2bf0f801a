import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createLocalJWKSet, createRemoteJWKSet, errors, type JWTVerifyGetKey } from "jose";

/** The least time between two fetches because a token names a key that is not there. */
const cooldownMs = 30_000;
/** How long fetched keys are used. */
const cacheMs = 600_000;
const fetchTimeoutMs = 2_000;

/**
 * Opens a JWKS (RFC 7517) at a URL, `https:`, `http:` or `file:`. Keys are fetched when they are
 * needed first, and again when a token names one that is not among them, at most every 30 s.
 */
export function openKeySet(url: string): JWTVerifyGetKey {
  return url.startsWith("file:")
    ? openFile(url)
    : createRemoteJWKSet(new URL(url), { cooldownDuration: cooldownMs, cacheMaxAge: cacheMs, timeoutDuration: fetchTimeoutMs });
}

function openFile(url: string): JWTVerifyGetKey {
  let keys: ReturnType<typeof createLocalJWKSet> | undefined;
  let readMs = Number.NEGATIVE_INFINITY;
  const read = (): ReturnType<typeof createLocalJWKSet> => {
    readMs = performance.now();
    keys = createLocalJWKSet(JSON.parse(readFileSync(fileURLToPath(url), "utf8")));
    return keys;
  };
  return async (header, token) => {
    try {
      return await (keys ?? read())(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || performance.now() - readMs < cooldownMs) throw error;
      return read()(header, token);
    }
  };
}
