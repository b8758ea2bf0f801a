import type { Interceptor } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { Access } from "@parley/gen/parley/options/v1/options_pb.js";
import type { Authenticate } from "../../auth/authenticate.ts";
import { identityKey } from "../../auth/caller.ts";
import { accessOf } from "../contract.ts";
import { fail } from "../errors.ts";

/** Lets in only whom the contract names, by the roles of their token, and tells the handler who they are. */
export function access(authenticate: Authenticate): Interceptor {
  return (next) => async (req) => {
    const allowed = accessOf(req.method);
    if (allowed.includes(Access.PUBLIC)) return next(req);
    const identity = await authenticate(req.header.get("authorization"));
    if (!allowed.some((role) => identity.roles.has(role))) {
      const names = allowed.map((role) => Access[role].toLowerCase()).join(" or ");
      throw fail(ErrorReason.PERMISSION_DENIED, `${req.method.name} needs a token with the role ${names}`);
    }
    req.contextValues.set(identityKey, identity);
    return next(req);
  };
}
