import { createFail } from "@parley/chassis/rpc/errors.ts";
import { ErrorReasonSchema } from "@parley/gen/parley/orders/v1/orders_pb.js";
export const fail = createFail(ErrorReasonSchema);
