import type { DescService, Message } from "@bufbuild/protobuf";
import { createServiceImplSpec, type HandlerContext, type MethodImplSpec, type Transport } from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";

/** Headers that belong to one hop, to the protocol that is translated, or to the gateway's own word; all others of a response pass. */
const hopHeaders =
  /^(access-control-.*|allow|connection|content-.*|date|grpc-.*|keep-alive|proxy-.*|server|set-cookie|te|trailer|transfer-encoding|upgrade|vary|x-request-id)$/;

/** Implements each method of a contract by passing its calls on, with what is left of their time. */
export function relay(contract: DescService, transport: Transport): MethodImplSpec[] {
  // Connect's specs know their method by its kind of streaming, which descriptors alone do not.
  return Object.values(createServiceImplSpec(contract, {}).methods).map((spec) => relayMethod(spec, transport));
}

function relayMethod(spec: MethodImplSpec, transport: Transport): MethodImplSpec {
  switch (spec.kind) {
    case "unary": {
      const impl: typeof spec.impl = async (request, context) => {
        const { signal, values } = context;
        const response = await transport.unary(spec.method, signal, context.timeoutMs(), undefined, request, values);
        pass(response.header, context.responseHeader);
        pass(response.trailer, context.responseTrailer);
        return response.message;
      };
      return { ...spec, impl };
    }
    case "server_streaming": {
      const impl: typeof spec.impl = (request, context) => relayStream(spec, transport, createAsyncIterable([request]), context);
      return { ...spec, impl };
    }
    case "client_streaming": {
      const impl: typeof spec.impl = async (requests, context) => {
        let answer: Message | undefined;
        // To the end: the call's error and its trailer come after its message.
        for await (const message of relayStream(spec, transport, requests, context)) answer = message;
        if (answer === undefined) throw new Error(`${spec.method.parent.typeName}.${spec.method.name} ended without an answer`);
        return answer;
      };
      return { ...spec, impl };
    }
    case "bidi_streaming": {
      const impl: typeof spec.impl = (requests, context) => relayStream(spec, transport, requests, context);
      return { ...spec, impl };
    }
  }
}

async function* relayStream(
  spec: Exclude<MethodImplSpec, { kind: "unary" }>,
  transport: Transport,
  requests: Parameters<Transport["stream"]>[4],
  context: HandlerContext,
) {
  const { signal, values } = context;
  const response = await transport.stream(spec.method, signal, context.timeoutMs(), undefined, requests, values);
  pass(response.header, context.responseHeader);
  yield* response.message;
  pass(response.trailer, context.responseTrailer);
}

function pass(from: Headers, to: Headers): void {
  for (const [key, value] of from) if (!hopHeaders.test(key)) to.append(key, value);
}
