import { ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { Access } from "@parley/gen/parley/options/v1/options_pb.js";
import { decodeJwt, errors, type JWTPayload, jwtVerify } from "jose";
import { type Config, type ConfigShape, optionalUrl, text } from "../config.ts";
import { fail } from "../rpc/errors.ts";
import { openKeySet } from "./key-set.ts";

/** What a token's clock may be off. */
const clockToleranceSeconds = 30;
/** Those that RFC 8725 leaves and that identity services use. */
export const algorithms = ["EdDSA", "ES256", "RS256"];
/** A name has no dot, which ends it in a key's id. */
const isServiceIssuer = /^service:[a-z][a-z-]*$/;
/** For how long, and for how many tokens, it is remembered that they are valid: to check a signature costs more than the rest of a small call. */
const remembered = { ms: 10_000, most: 1_000 };
/** The roles that users have, by their names in a token's `roles`. No user's token makes a service. */
const userRoles: Readonly<Record<string, Access>> = { customer: Access.CUSTOMER, staff: Access.STAFF };

const jwksUrl = (description: string) =>
  optionalUrl({ protocols: ["https", "http", "file"], description, otherwise: "made in PARLEY_DATA_DIR" });

/** The variables of every service, which checks tokens itself. */
export const authConfig = {
  PARLEY_AUTH_JWKS_URL: jwksUrl("Keys of users' tokens, a JWKS at an https:, http: or file: URL"),
  PARLEY_AUTH_ISSUER: text("parley", "Issuer of users' tokens, their claim iss"),
  PARLEY_AUTH_AUDIENCE: text("parley", "Whom tokens are for, their claim aud"),
  PARLEY_AUTH_SERVICE_JWKS_URL: jwksUrl("Keys of the services' own tokens, a JWKS at such a URL"),
} satisfies ConfigShape;

/** Who makes a call. */
export interface Identity {
  /** A user's id, or a service's name. */
  readonly subject: string;
  readonly roles: ReadonlySet<Access>;
}

/** Returns who the header `authorization` says makes the call. Throws `UNAUTHENTICATED` without a valid token, `UNAVAILABLE` where its key cannot be had. */
export type Authenticate = (authorization: string | null) => Promise<Identity>;

/** What the tokens of a service say as their issuer and subject. */
export function issuerOf(serviceName: string): string {
  return `service:${serviceName}`;
}

/** Whether a key is good for an issuer's tokens: its id is `service:orders`, or `service:orders.` and what tells its keys apart. */
export function isKeyOf(issuer: string, kid: string | undefined): boolean {
  return kid === issuer || kid?.startsWith(`${issuer}.`) === true;
}

/**
 * Creates what checks tokens: JWTs (RFC 7519), those of users by one set of keys and those of
 * services by another, in which each key is good for its own service, and role SERVICE, alone.
 */
export function createAuthenticate(config: Config<typeof authConfig>): Authenticate {
  const users = openKeySet(config.PARLEY_AUTH_JWKS_URL ?? "");
  const services = openKeySet(config.PARLEY_AUTH_SERVICE_JWKS_URL ?? "");
  const issuer = config.PARLEY_AUTH_ISSUER;
  const common = {
    audience: config.PARLEY_AUTH_AUDIENCE,
    algorithms,
    clockTolerance: clockToleranceSeconds,
    requiredClaims: ["sub", "exp"],
  };
  const known = new Map<string, { readonly identity: Identity; readonly untilMs: number }>();

  async function check(token: string): Promise<{ identity: Identity; exp: number }> {
    try {
      const { iss } = decodeJwt(token);
      if (typeof iss !== "string" || !iss.startsWith(issuerOf(""))) {
        const { payload } = await jwtVerify(token, users, { ...common, issuer });
        return { identity: { subject: subjectOf(payload), roles: rolesOf(payload["roles"]) }, exp: payload.exp ?? 0 };
      }
      const { payload, protectedHeader } = await jwtVerify(token, services, { ...common, issuer: iss, subject: iss });
      if (!isServiceIssuer.test(iss) || !isKeyOf(iss, protectedHeader.kid)) throw new errors.JWSSignatureVerificationFailed();
      return { identity: { subject: iss.slice(issuerOf("").length), roles: new Set([Access.SERVICE]) }, exp: payload.exp ?? 0 };
    } catch (error) {
      throw refusalOf(error);
    }
  }

  return async (authorization) => {
    const [, token] = /^Bearer +(\S+)$/i.exec(authorization ?? "") ?? [];
    if (token === undefined) throw unauthenticated('the method is not public: send a token as "authorization: Bearer …"');
    const before = known.get(token);
    if (before !== undefined && before.untilMs > performance.now()) return before.identity;
    const { identity, exp } = await check(token);
    known.delete(token); // so that it is the newest
    const leftMs = exp * 1_000 - Date.now(); // none, within the tolerance of clocks
    known.set(token, { identity, untilMs: performance.now() + Math.min(remembered.ms, leftMs) });
    for (const oldest of known.keys()) {
      if (known.size <= remembered.most) break;
      known.delete(oldest);
    }
    return identity;
  };
}

/** A subject becomes a key of data. */
function subjectOf({ sub }: JWTPayload): string {
  if (typeof sub === "string" && /^[^\0]{1,200}$/.test(sub)) return sub;
  throw unauthenticated("the token's claim sub is not a text of 1 to 200 characters");
}

function rolesOf(claim: unknown): Set<Access> {
  const names = Array.isArray(claim) ? claim : [];
  return new Set(names.flatMap((name) => (typeof name === "string" && Object.hasOwn(userRoles, name) ? (userRoles[name] ?? []) : [])));
}

function refusalOf(error: unknown): unknown {
  if (error instanceof ConnectError) return error;
  const isOfToken = error instanceof errors.JOSEError && !(error instanceof errors.JWKSTimeout) && !(error instanceof errors.JWKSInvalid);
  if (!isOfToken || error.code === errors.JOSEError.code) {
    const unavailable = fail(ErrorReason.UNAVAILABLE, "tokens cannot be checked right now, for their keys cannot be had; try again");
    unavailable.cause = error;
    return unavailable;
  }
  if (error instanceof errors.JWTExpired) return unauthenticated("the token has expired: get a new one");
  if (error instanceof errors.JWTClaimValidationFailed)
    return unauthenticated(`the token's claim ${error.claim} is not the one that is expected`);
  return unauthenticated("the token is not valid: it is malformed, or not signed by a key that is known here");
}

function unauthenticated(message: string): ConnectError {
  return fail(ErrorReason.UNAUTHENTICATED, message);
}
