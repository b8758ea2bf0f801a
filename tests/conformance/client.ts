// A client that the runner tests: the transport with which services call each other.
import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConnectError, createClient } from "@connectrpc/connect";
import { statusMessageOf } from "@parley/chassis/rpc/errors.ts";
import { openTransport } from "@parley/chassis/rpc/transport.ts";
import { testTelemetry } from "@parley/chassis/testing/telemetry.ts";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { readDelimited, writeDelimited } from "./delimited.ts";
import {
  type ClientCompatRequest,
  ClientCompatRequestSchema,
  ClientCompatResponseSchema,
  type ClientResponseResult,
  ClientResponseResultSchema,
} from "./gen/connectrpc/conformance/v1/client_compat_pb.js";
import { StreamType } from "./gen/connectrpc/conformance/v1/config_pb.js";
import {
  BidiStreamRequestSchema,
  ClientStreamRequestSchema,
  type ConformancePayload,
  ConformancePayloadSchema,
  ConformanceService,
  ErrorSchema,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  UnaryRequestSchema,
  UnimplementedRequestSchema,
} from "./gen/connectrpc/conformance/v1/service_pb.js";
import { headersOf } from "./service.ts";

const running: Promise<void>[] = [];
for await (const request of readDelimited(ClientCompatRequestSchema)) running.push(report(request));
await Promise.all(running);

async function report(request: ClientCompatRequest): Promise<void> {
  const { testName } = request;
  try {
    writeDelimited(ClientCompatResponseSchema, { testName, result: { case: "response", value: await call(request) } });
  } catch (error) {
    writeDelimited(ClientCompatResponseSchema, { testName, result: { case: "error", value: { message: String(error) } } });
  }
}

async function call(request: ClientCompatRequest): Promise<ClientResponseResult> {
  const transport = openTransport({
    target: `ipv4:${request.host}:${request.port}`,
    contracts: [ConformanceService],
    peerName: "conformance",
    telemetry: testTelemetry(),
    maxMessageBytes: request.messageReceiveLimit || 4 * 1024 * 1024,
  });
  const client = createClient(ConformanceService, transport);
  const result = create(ClientResponseResultSchema, { numUnsentRequests: request.requestMessages.length });
  const leave = new AbortController();
  const options = {
    headers: request.requestHeaders.flatMap(({ name, value }) => value.map((one): [string, string] => [name, one])),
    signal: leave.signal,
    ...(request.timeoutMs !== undefined && { timeoutMs: request.timeoutMs }),
    onHeader: (header: Headers): void => void result.responseHeaders.push(...headersOf(header)),
    onTrailer: (trailer: Headers): void => void result.responseTrailers.push(...headersOf(trailer)),
  };
  const timing = request.cancel?.cancelTiming;
  let turn = Promise.withResolvers<void>();
  let isOver = false;

  /** Takes what is sent next from the request, at the times that it says. */
  async function* send<Desc extends DescMessage>(schema: Desc): AsyncGenerator<MessageShape<Desc>> {
    for (const [index, message] of request.requestMessages.entries()) {
      await delay(request.requestDelayMs);
      result.numUnsentRequests--;
      yield unpack(schema, message);
      if (request.streamType !== StreamType.FULL_DUPLEX_BIDI_STREAM) continue;
      while (result.payloads.length <= index && !isOver) await turn.promise;
    }
    if (timing?.case === "beforeCloseSend") leave.abort();
    if (timing?.case === "afterCloseSendMs") setTimeout(() => leave.abort(), timing.value);
  }
  async function sendOne<Desc extends DescMessage>(schema: Desc): Promise<MessageShape<Desc>> {
    const messages = await Array.fromAsync(send(schema));
    const [message] = messages;
    if (message === undefined || messages.length > 1) throw new Error("the call is not of one message");
    return message;
  }
  const take = ({ payload }: { payload?: ConformancePayload | undefined }): void => {
    result.payloads.push(payload ?? create(ConformancePayloadSchema));
    if (timing?.case === "afterNumResponses" && timing.value === result.payloads.length) leave.abort();
    turn.resolve();
    turn = Promise.withResolvers();
  };

  try {
    switch (request.method) {
      case "Unary":
        take(await client.unary(await sendOne(UnaryRequestSchema), options));
        break;
      case "IdempotentUnary":
        take(await client.idempotentUnary(await sendOne(IdempotentUnaryRequestSchema), options));
        break;
      case "Unimplemented":
        await client.unimplemented(await sendOne(UnimplementedRequestSchema), options);
        break;
      case "ClientStream":
        take(await client.clientStream(send(ClientStreamRequestSchema), options));
        break;
      case "ServerStream":
        for await (const response of client.serverStream(await sendOne(ServerStreamRequestSchema), options)) take(response);
        break;
      case "BidiStream":
        for await (const response of client.bidiStream(send(BidiStreamRequestSchema), options)) take(response);
        break;
      default:
        throw new Error(`there is no method ${request.method}`);
    }
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    // Of a failure that no server told, the transport says so itself: that was on no wire.
    const isOwn = error.findDetails(ErrorInfoSchema).some(({ domain }) => domain === "parley.errors.v1");
    const details = isOwn ? [] : statusMessageOf(error).details;
    result.error = create(ErrorSchema, { code: error.code as number, message: error.rawMessage, details });
    // Connect has one place for both.
    if (result.responseHeaders.length === 0) result.responseHeaders = headersOf(error.metadata);
    if (result.responseTrailers.length === 0) result.responseTrailers = headersOf(error.metadata);
  } finally {
    isOver = true;
    turn.resolve();
    transport.close();
  }
  return result;
}

function unpack<Desc extends DescMessage>(schema: Desc, any: Any): MessageShape<Desc> {
  const message = anyUnpack(any, schema);
  if (message === undefined) throw new Error(`${any.typeUrl} is no ${schema.typeName}`);
  return message;
}
