import { setTimeout as delay } from "node:timers/promises";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { greet } from "./greeting.ts";

export const handlers: ServiceImpl<typeof GreeterService> = {
  hello({ name }) {
    return { message: greet(name) };
  },

  async *helloStream({ names, count = 1, interval }, { signal }) {
    for (let round = 0; round < count; round++) {
      for (const [index, name] of names.entries()) {
        if (round + index > 0 && interval !== undefined) await delay(durationMs(interval), undefined, { signal });
        yield { message: greet(name) };
      }
    }
  },
};
