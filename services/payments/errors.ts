import { createFail } from "@parley/chassis/rpc/errors.ts";
import { ErrorReasonSchema } from "@parley/gen/parley/payments/v1/payments_pb.js";
export const fail = createFail(ErrorReasonSchema);
