import { type ContextKey, createContextKey, type HandlerContext } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { Access } from "@parley/gen/parley/options/v1/options_pb.js";
import { fail, invalidRequest } from "../rpc/errors.ts";
import type { Identity } from "./authenticate.ts";

/** Who makes the call; set where the method is not public. */
export const identityKey: ContextKey<Identity | undefined> = createContextKey<Identity | undefined>(undefined, { description: "identity" });

/**
 * Returns the customer whose things a call is about: who makes it, or whom a service names.
 *
 * Throws `PERMISSION_DENIED` where anyone but a service names one, and `INVALID_ARGUMENT` where a
 * service names none. It is not for public methods.
 */
export function customerIdOf(context: Caller, named: string): string {
  const { subject, roles } = identityOf(context);
  if (!roles.has(Access.SERVICE)) {
    if (named !== "") throw fail(ErrorReason.PERMISSION_DENIED, "customer_id is for services: leave it out, for it is that of the token");
    return subject;
  }
  if (named === "") throw invalidRequest([{ field: "customer_id", description: "a service must name the customer", reason: "required" }]);
  return named;
}

/** Returns the customer who makes the call, and may see their own things alone; undefined for staff and services, who may see all. */
export function findOwner(context: Caller): string | undefined {
  const { subject, roles } = identityOf(context);
  return roles.has(Access.STAFF) || roles.has(Access.SERVICE) ? undefined : subject;
}

/** Returns who makes the call, of a method that is not public. */
function identityOf({ values }: Caller): Identity {
  const identity = values.get(identityKey);
  if (identity === undefined) throw new Error("a public method has no caller");
  return identity;
}

type Caller = Pick<HandlerContext, "values">;
