import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService } from "@parley/chassis/service.ts";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { handlers } from "./handlers.ts";

/** Greets: the smallest service there is. */
export const greeter = defineService({
  name: "greeter",
  config: {},
  start: () => ({ handlers: [implement(GreeterService, handlers)] }),
});
