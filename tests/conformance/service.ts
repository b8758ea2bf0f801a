import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { type Any, anyPack } from "@bufbuild/protobuf/wkt";
import { ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import {
  type BidiStreamRequest,
  BidiStreamRequestSchema,
  ClientStreamRequestSchema,
  type ConformancePayload,
  type ConformancePayload_RequestInfo,
  ConformancePayload_RequestInfoSchema,
  ConformancePayloadSchema,
  type ConformanceService,
  type Error as ErrorDefinition,
  type Header,
  HeaderSchema,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  type StreamResponseDefinition,
  UnaryRequestSchema,
  type UnaryResponseDefinition,
} from "./gen/connectrpc/conformance/v1/service_pb.js";

/** What the runner's contract asks of a service: it answers as each request says, and tells what it got. */
export const conformance: Omit<ServiceImpl<typeof ConformanceService>, "unimplemented"> = {
  async unary(request, context) {
    return { payload: await answerOnce(request.responseDefinition, [anyPack(UnaryRequestSchema, request)], context) };
  },

  async idempotentUnary(request, context) {
    return { payload: await answerOnce(request.responseDefinition, [anyPack(IdempotentUnaryRequestSchema, request)], context) };
  },

  async clientStream(requests, context) {
    const { first, all } = await readAll(ClientStreamRequestSchema, requests);
    return { payload: await answerOnce(first?.responseDefinition, all, context) };
  },

  async *serverStream(request, context) {
    yield* answerAll(request.responseDefinition, [anyPack(ServerStreamRequestSchema, request)], context);
  },

  async *bidiStream(requests, context) {
    const iterator = requests[Symbol.asyncIterator]();
    const { value: first, done } = await iterator.next();
    if (done === true) return;
    const rest = { [Symbol.asyncIterator]: () => iterator };
    const seen = anyPack(BidiStreamRequestSchema, first);
    if (!first.fullDuplex) {
      const { all } = await readAll(BidiStreamRequestSchema, rest);
      yield* answerAll(first.responseDefinition, [seen, ...all], context);
      return;
    }
    yield* answerEach(first.responseDefinition, seen, iterator, context);
  },
};

/** Answers each request with one response as long as there are any, and sends what is left of them at the end. */
async function* answerEach(
  definition: StreamResponseDefinition | undefined,
  first: Any,
  rest: AsyncIterator<BidiStreamRequest>,
  context: HandlerContext,
): AsyncGenerator<{ payload: ConformancePayload }> {
  setMetadata(definition, context);
  const responses = [...(definition?.responseData ?? [])];
  let unseen = [first];
  let isFirst = true;
  const next = async (): Promise<{ payload: ConformancePayload } | undefined> => {
    const data = responses.shift();
    if (data === undefined) return undefined;
    await pause(definition, context);
    const payload = payloadOf(data, isFirst ? infoOf(unseen, context) : { requests: unseen });
    [unseen, isFirst] = [[], false];
    return { payload };
  };
  const answer = await next();
  if (answer !== undefined) yield answer;
  while (responses.length > 0 || definition?.error === undefined) {
    const { value: request, done } = await rest.next();
    if (done === true) break;
    unseen.push(anyPack(BidiStreamRequestSchema, request));
    const further = await next();
    if (further !== undefined) yield further;
  }
  for (let further = await next(); further !== undefined; further = await next()) yield further;
  if (definition?.error !== undefined) throw errorOf(definition.error, isFirst ? infoOf(unseen, context) : undefined);
}

async function answerOnce(definition: UnaryResponseDefinition | undefined, requests: Any[], context: HandlerContext) {
  setMetadata(definition, context);
  await pause(definition, context);
  const info = infoOf(requests, context);
  if (definition?.response.case === "error") throw errorOf(definition.response.value, info);
  return payloadOf(definition?.response.value, info);
}

async function* answerAll(definition: StreamResponseDefinition | undefined, requests: Any[], context: HandlerContext) {
  setMetadata(definition, context);
  for (const [index, data] of (definition?.responseData ?? []).entries()) {
    await pause(definition, context);
    yield { payload: payloadOf(data, index === 0 ? infoOf(requests, context) : undefined) };
  }
  if (definition?.error === undefined) return;
  throw errorOf(definition.error, definition.responseData.length === 0 ? infoOf(requests, context) : undefined);
}

async function readAll<Desc extends DescMessage>(
  schema: Desc,
  requests: AsyncIterable<MessageShape<Desc>>,
): Promise<{ first: MessageShape<Desc> | undefined; all: Any[] }> {
  const messages = await Array.fromAsync(requests);
  return { first: messages[0], all: messages.map((message) => anyPack(schema, message)) };
}

async function pause(
  definition: UnaryResponseDefinition | StreamResponseDefinition | undefined,
  { signal }: HandlerContext,
): Promise<void> {
  await delay(definition?.responseDelayMs, undefined, { signal }).catch(() => {
    throw signal.reason;
  });
}

function setMetadata(definition: UnaryResponseDefinition | StreamResponseDefinition | undefined, context: HandlerContext): void {
  for (const { name, value } of definition?.responseHeaders ?? []) for (const one of value) context.responseHeader.append(name, one);
  for (const { name, value } of definition?.responseTrailers ?? []) for (const one of value) context.responseTrailer.append(name, one);
}

function payloadOf(
  data: Uint8Array = new Uint8Array(),
  requestInfo?: MessageInitShape<typeof ConformancePayload_RequestInfoSchema>,
): ConformancePayload {
  return create(ConformancePayloadSchema, { data, ...(requestInfo !== undefined && { requestInfo }) });
}

function infoOf(requests: Any[], { requestHeader, requestMethod, url, timeoutMs }: HandlerContext): ConformancePayload_RequestInfo {
  const timeout = timeoutMs();
  return create(ConformancePayload_RequestInfoSchema, {
    requestHeaders: headersOf(requestHeader),
    requests,
    ...(timeout !== undefined && { timeoutMs: BigInt(Math.round(timeout)) }),
    ...(requestMethod === "GET" && { connectGetInfo: { queryParams: headersOf(new URL(url).searchParams) } }),
  });
}

export function headersOf(pairs: Iterable<[string, string]>): Header[] {
  return [...pairs].map(([name, value]) => create(HeaderSchema, { name, value: [value] }));
}

/** What a request had is told in the error, where no response tells it. */
function errorOf({ code, message, details }: ErrorDefinition, info: ConformancePayload_RequestInfo | undefined): ConnectError {
  const error = new ConnectError(message ?? "", code as number);
  const all = info === undefined ? details : [...details, anyPack(ConformancePayload_RequestInfoSchema, info)];
  error.details = all.map(({ typeUrl, value }) => ({ type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value }));
  return error;
}
