import { type ClientHttp2Session, connect } from "node:http2";
import { text } from "node:stream/consumers";

/** Gets a path, over HTTP/2. Throws where the request is not answered in time. */
export type Get = (path: string) => Promise<{ status: number; body: string }>;

/** Opens a client of HTTP/2 that does what every one must: it opens another connection when it was told that this one ends (RFC 9113, section 6.8). */
export function openHttp2Client(baseUrl: string, timeoutMs: number): { get: Get; close(): void } {
  let session: ClientHttp2Session | undefined;
  const getSession = (): ClientHttp2Session => {
    if (session === undefined || session.closed || session.destroyed) session = connect(baseUrl).on("error", () => {}); // each stream tells it
    return session;
  };
  return {
    async get(path) {
      const stream = getSession().request({ ":path": path }, { signal: AbortSignal.timeout(timeoutMs) });
      const headers = Promise.withResolvers<number>();
      stream.once("response", (answer) => headers.resolve(Number(answer[":status"])));
      stream.once("error", headers.reject).once("close", () => headers.reject(new Error("the stream was closed without an answer")));
      const status = await headers.promise;
      return { status, body: await text(stream) };
    },
    close: () => session?.close(),
  };
}
