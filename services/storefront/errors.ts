import { createFail } from "@parley/chassis/rpc/errors.ts";
import { ErrorReasonSchema } from "@parley/gen/parley/storefront/v1/storefront_pb.js";
export const fail = createFail(ErrorReasonSchema);
