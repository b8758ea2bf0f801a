import type { Interceptor } from "@connectrpc/connect";
import { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";
import { findCurrentCall } from "../current-call.ts";
import type { LoadShedder } from "../load-shedder.ts";

/** Lets calls in by their criticality. Streams are refused like others, but not counted. */
export function loadShedding(shedder: LoadShedder): Interceptor {
  return (next) => async (req) => {
    const leave = shedder.admit(findCurrentCall()?.criticality ?? Criticality.DEFAULT);
    if (req.stream) leave();
    try {
      return await next(req);
    } finally {
      if (!req.stream) leave();
    }
  };
}
