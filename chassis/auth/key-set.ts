import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createLocalJWKSet, createRemoteJWKSet, errors, type JWTVerifyGetKey } from "jose";

/** The least time between two fetches because a token names a key that is not there. Default of `cooldownMs`. */
const defaultCooldownMs = 30_000;
/** How long fetched keys are used. */
const cacheMs = 600_000;
const fetchTimeoutMs = 2_000;

/**
 * Opens a JWKS (RFC 7517) at a URL, `https:`, `http:` or `file:`. Keys are fetched when they are
 * needed first, again after 10 minutes, and when a token names one that is not among them, at most
 * every 30 s.
 */
export function openKeySet(url: string, cooldownMs = defaultCooldownMs): JWTVerifyGetKey {
  if (url.startsWith("file:")) return openFile(fileURLToPath(url), cooldownMs);
  return createRemoteJWKSet(new URL(url), { cooldownDuration: cooldownMs, cacheMaxAge: cacheMs, timeoutDuration: fetchTimeoutMs });
}

function openFile(path: string, cooldownMs: number): JWTVerifyGetKey {
  let keys: ReturnType<typeof createLocalJWKSet> | undefined;
  let readMs = Number.NEGATIVE_INFINITY;
  const ageMs = (): number => performance.now() - readMs;
  const read = (): ReturnType<typeof createLocalJWKSet> => {
    keys = createLocalJWKSet(JSON.parse(readFileSync(path, "utf8")));
    readMs = performance.now();
    return keys;
  };
  return async (header, token) => {
    try {
      return await (keys === undefined || ageMs() > cacheMs ? read() : keys)(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || ageMs() < cooldownMs) throw error;
      return read()(header, token);
    }
  };
}
