import { connect } from "node:http2";

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
