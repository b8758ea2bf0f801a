import { setTimeout as delay } from "node:timers/promises";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { type EchoService, type Ending, ErrorReason, ErrorReasonSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { createFail } from "../rpc/errors.ts";

const fail = createFail(ErrorReasonSchema);

/** Sends back what it gets, and ends as it is asked to. */
export const echo: ServiceImpl<typeof EchoService> = {
  async echo({ text, ending, numbers }, { signal, requestHeader, responseHeader, responseTrailer }) {
    // Metadata comes back as it came, text and binary, in the header and in the trailer.
    for (const [key, value] of requestHeader) {
      if (!key.startsWith("x-test")) continue;
      responseHeader.set(key, value);
      responseTrailer.set(key.replace("x-test", "x-trailer"), value);
    }
    await end(ending, signal);
    return { text, numbers };
  },

  async echoOnce({ text, ending }, { signal }) {
    await end(ending, signal);
    return { text };
  },

  async echoHedged({ text, ending }, { signal }) {
    await end(ending, signal);
    return { text };
  },

  async echoCritical({ text, ending }, { signal }) {
    await end(ending, signal);
    return { text };
  },

  async *repeat({ text, count, ending }, { signal }) {
    for (let index = 0; index < count; index++) yield { text, index };
    await end(ending, signal);
  },

  async collect(requests) {
    let text = "";
    for await (const request of requests) text += request.text;
    return { text };
  },

  async *chat(requests, { signal }) {
    for await (const { text, ending } of requests) {
      yield { text };
      await end(ending, signal);
    }
  },

  secret: () => ({}),
};

async function end(ending: Ending | undefined, signal: AbortSignal): Promise<void> {
  if (ending?.delay !== undefined) await delay(durationMs(ending.delay), undefined, { signal });
  if (ending?.crash) throw new TypeError("the password is hunter2");
  if (ending === undefined || ending.code === 0) return;
  const code: number = ending.code;
  if (code === Code.FailedPrecondition) throw fail(ErrorReason.AS_ASKED, "as asked", { why: "test" });
  throw new ConnectError("as asked", code as Code);
}
