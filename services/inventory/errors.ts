import { createFail } from "@parley/chassis/rpc/errors.ts";
import { ErrorReasonSchema } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
export const fail = createFail(ErrorReasonSchema);
