import type { DescService } from "@bufbuild/protobuf";
import { createServiceImplSpec, type HandlerContext, type MethodImplSpec, type Transport } from "@connectrpc/connect";
import { createAsyncIterable } from "@connectrpc/connect/protocol";

/** Headers that belong to one hop, or to the protocol that is translated; all others of a response pass. */
const hopHeaders = /^(connection|content-.*|date|grpc-.*|keep-alive|server|te|trailer|transfer-encoding|x-request-id)$/;

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
        for await (const message of relayStream(spec, transport, requests, context)) return message;
        throw new Error(`${spec.method.parent.typeName}.${spec.method.name} ended without an answer`);
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
