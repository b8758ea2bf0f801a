import { createFail } from "@parley/chassis/rpc/errors.ts";
import { ErrorReasonSchema } from "@parley/gen/parley/carts/v1/carts_pb.js";
export const fail = createFail(ErrorReasonSchema);
