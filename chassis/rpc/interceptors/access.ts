import type { Interceptor } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { Access } from "@parley/gen/parley/options/v1/options_pb.js";
import { accessOf } from "../contract.ts";
import { fail } from "../errors.ts";

/** Lets only those in whom the contract names. Nobody has a token yet, so all but public methods are refused. */
export const access: Interceptor = (next) => async (req) => {
  if (accessOf(req.method).includes(Access.PUBLIC)) return next(req);
  throw fail(ErrorReason.UNAUTHENTICATED, `${req.method.name} is not public: send a token as "authorization: Bearer …"`);
};
