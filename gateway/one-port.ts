import { createServer as createHttp1Server, type RequestListener } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Session } from "node:http2";
import { createServer as createTcpServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { flushMs } from "@parley/chassis/rpc/shutdown.ts";
import type { NodeHandler } from "./node-handler.ts";

/** What a client without TLS sends first when it knows that the server speaks HTTP/2 (RFC 9113, section 3.4). */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
/** Streams that one HTTP/2 connection may have open. */
const maxConcurrentStreams = 1_000;
/**
 * Limits of an HTTP/2 connection, as options of node:http2: beyond them it is closed. A backend's
 * connection carries many users, of whom some leave, so they are above Node's 1,000 resets at once
 * and 33 a second; and a reset costs 0.14 ms, so this rate takes at most a seventh of a core.
 */
const http2Limits = { streamResetBurst: 5_000, streamResetRate: 1_000, maxSessionRejectedStreams: 10_000 };
/** Time that a connection has to send the next request; on HTTP/2, whatever else it sends. */
const idleMs = 60_000;
/** While draining, time that clients have to send what is on its way on a connection that looks idle. */
const lateRequestMs = 500;
/** While draining, how often connections that have become idle are closed. */
const sweepMs = 20;

/** A TCP port that serves HTTP/1.1 and HTTP/2 without TLS. */
export interface OnePort {
  /**
   * Takes no more connections; resolves when all requests have ended and every connection is
   * closed. A second after `giveUp` fires, those that are left are cut.
   */
  drain(giveUp: AbortSignal): Promise<void>;
}

/** Listens. Which HTTP a client speaks is seen from its first bytes, for which, as for its headers, it has `headerTimeoutMs`. */
export async function openOnePort(options: {
  readonly host: string;
  readonly port: number;
  readonly handler: NodeHandler;
  readonly headerTimeoutMs: number;
  readonly maxConnections: number;
}): Promise<OnePort> {
  const { headerTimeoutMs, handler } = options;
  const http1 = createHttp1Server(
    { headersTimeout: headerTimeoutMs, keepAliveTimeout: idleMs, connectionsCheckingInterval: 1_000, noDelay: true },
    handler as RequestListener,
  );
  // It never listens itself. Without this event Node tracks no connections: no time limits, no closing of idle ones.
  http1.emit("listening");
  const http2 = createHttp2Server({ settings: { maxConcurrentStreams }, ...http2Limits }, handler);
  const sessions = new Set<ServerHttp2Session>();
  http2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    limitIdleTime(session, headerTimeoutMs);
  });
  const sockets = new Set<Socket>();
  const undecided = new Set<Socket>();

  const server = createTcpServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    undecided.add(socket);
    const giveUp = (): void => void socket.destroy();
    const timer = setTimeout(giveUp, headerTimeoutMs);
    socket.once("close", () => {
      clearTimeout(timer);
      sockets.delete(socket);
      undecided.delete(socket);
    });
    socket.on("error", giveUp).on("end", giveUp);
    let seen: Buffer = Buffer.alloc(0);
    socket.on("readable", function onReadable() {
      for (let chunk: Buffer | null = socket.read(); chunk !== null; chunk = socket.read()) seen = Buffer.concat([seen, chunk]);
      if (seen.length === 0) return;
      const length = Math.min(seen.length, preface.length);
      const isHttp2 = seen.subarray(0, length).equals(preface.subarray(0, length));
      if (isHttp2 && length < preface.length) return; // the rest is on its way
      clearTimeout(timer);
      undecided.delete(socket);
      socket.off("readable", onReadable).off("error", giveUp).off("end", giveUp);
      if (isHttp2) socket.allowHalfOpen = false; // as http2 expects, unlike http
      socket.unshift(seen);
      (isHttp2 ? http2 : http1).emit("connection", socket);
    });
  });
  server.maxConnections = options.maxConnections;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, resolve);
  });

  return {
    async drain(giveUp) {
      server.close();
      for (const session of sessions) session.close();
      await delay(lateRequestMs, undefined, { signal: giveUp }).catch(() => {});
      for (const socket of undecided) socket.destroy();
      for (const session of sessions) session.close(); // those that were opened since
      let cutMs = Number.POSITIVE_INFINITY;
      for (; sockets.size > 0 && performance.now() < cutMs; await delay(sweepMs)) {
        http1.closeIdleConnections();
        if (giveUp.aborted) cutMs = Math.min(cutMs, performance.now() + flushMs);
      }
      for (const socket of sockets) socket.destroy();
      http1.close();
    },
  };
}

/**
 * Closes a connection that has no stream open for a while. Of a request whose headers are not
 * complete Node tells nothing, so that is no stream; the first one has `firstMs`.
 */
function limitIdleTime(session: ServerHttp2Session, firstMs: number): void {
  const end = (): void => {
    session.close(); // tells the client which requests it may send again
    setTimeout(() => session.destroy(), flushMs);
  };
  let open = 0;
  let timer = setTimeout(end, firstMs);
  session.on("stream", (stream) => {
    open++;
    clearTimeout(timer);
    stream.once("close", () => {
      open--;
      if (open === 0 && !session.destroyed) timer = setTimeout(end, idleMs);
    });
  });
  session.once("close", () => clearTimeout(timer));
}
