import { createFail } from "@parley/chassis/rpc/errors.ts";
import { ErrorReasonSchema } from "@parley/gen/parley/notifications/v1/notifications_pb.js";
export const fail = createFail(ErrorReasonSchema);
