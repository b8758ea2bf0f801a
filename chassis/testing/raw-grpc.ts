import { connect } from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { EchoRequestSchema, EchoResponseSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { onTestFinished } from "vitest";

/** Returns a gRPC frame (gRPC over HTTP/2, Length-Prefixed-Message), which may lie about its length. */
export function grpcFrame(content: Buffer, { flags = 0, length = content.length } = {}): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flags, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, content]);
}

/** Sends the bytes as the body of a gRPC call, over a connection of its own, and returns its status. */
export function callRaw(url: string, path: string, body: Buffer, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const session = connect(url);
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers", ...headers });
    const settle = (received: Record<string, unknown>): void => {
      if (received["grpc-status"] === undefined) return;
      resolve(Number(received["grpc-status"]));
      session.destroy();
    };
    stream.on("response", settle).on("trailers", settle).on("error", reject).resume();
    stream.end(body);
  });
}

/** Starts a call over a connection of its own, waits for the first bytes of its answer, and cuts the connection. */
export async function callAndVanish(url: string, path: string, body: Buffer): Promise<void> {
  const session = connect(url);
  session.on("error", () => {});
  const stream = session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" });
  stream.on("error", () => {}).end(body);
  await new Promise((resolve) => stream.once("data", resolve));
  session.socket?.destroy();
}

/** A grpc-js client without anything of ours; it closes with the test. */
export function openRawClient(port: number, options: grpc.ClientOptions = {}): grpc.Client {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), options);
  onTestFinished(() => client.close());
  return client;
}

/** Calls the echo service by such a client. */
export function rawEcho(client: grpc.Client, options: grpc.CallOptions = {}, metadata = new grpc.Metadata(), text = "hi") {
  return new Promise<{ text: string; header: grpc.Metadata; trailer: grpc.Metadata }>((resolve, reject) => {
    const header = Promise.withResolvers<grpc.Metadata>();
    let answer = "";
    client
      .makeUnaryRequest(
        "/parley.testing.v1.EchoService/Echo",
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes: Buffer) => fromBinary(EchoResponseSchema, bytes),
        toBinary(EchoRequestSchema, create(EchoRequestSchema, { text })),
        metadata,
        options,
        (error, value) => {
          if (error !== null) return reject(error);
          answer = value?.text ?? "";
        },
      )
      .on("metadata", header.resolve)
      .on("status", async ({ metadata: trailer }) => resolve({ text: answer, header: await header.promise, trailer }));
  });
}
