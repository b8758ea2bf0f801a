import { createFail } from "@parley/chassis/rpc/errors.ts";
import { ErrorReasonSchema } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
export const fail = createFail(ErrorReasonSchema);
