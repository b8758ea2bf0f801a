import { createServer as createHttp1Server, type RequestListener } from "node:http";
import { createServer as createHttp2Server, type Http2ServerRequest, type ServerHttp2Session } from "node:http2";
import { createServer as createTcpServer, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { flushMs } from "@parley/chassis/rpc/shutdown.ts";
import { type NodeHandler, type NodeRequest, type NodeResponse, unsentBytes } from "./node-handler.ts";

/** What a client without TLS sends first when it knows that the server speaks HTTP/2 (RFC 9113, section 3.4). */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
/** Streams that one HTTP/2 connection may have open; a client keeps further ones back. */
const maxConcurrentStreams = 250;
/** Requests that one HTTP/1.1 connection may send ahead of their answers, which hardly any client does. */
const maxPipelined = 20;
/**
 * Limits of an HTTP/2 connection, as options of node:http2: beyond them it is closed. A backend's
 * connection carries many users, of whom some leave, so they are above Node's 1,000 resets at once
 * and 33 a second.
 */
const http2Limits = { streamResetBurst: 2_000, streamResetRate: 1_000, maxSessionRejectedStreams: 10_000 };
/** Time that a connection has to send the next request, whatever else it sends. */
const idleMs = 60_000;
/** How often connections are looked at: whether they are idle, or take nothing. */
const lookMs = 1_000;
/** While draining, time that clients have to send what is on its way on a connection that looks idle. */
const lateRequestMs = 500;
/** Time that a client has to read what was sent, and to close a connection that we have closed. */
const lingerMs = 10_000;
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

export interface OnePortOptions {
  readonly host: string;
  readonly port: number;
  readonly handler: NodeHandler;
  /** Refuses a request beyond the limits, at little cost. */
  readonly refuse: NodeHandler;
  /** For the first bytes, from which it is seen which HTTP a client speaks, and for each request's headers. */
  readonly headerTimeoutMs: number;
  /** After which a connection is closed whose client takes nothing of what is sent to it. */
  readonly unreadTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxConnectionsPerClient: number;
  readonly maxRequests: number;
  readonly maxRequestsPerClient: number;
}

/** What is known of an open connection. */
interface Connection {
  readonly client: Client;
  /** Undefined: it is HTTP/1.1, or not known yet. */
  session?: ServerHttp2Session;
  isClosing: boolean;
  /** Requests whose answers are not sent to their end. */
  requests: number;
  /** When it had none for the first time. */
  idleSinceMs: number;
  /** Bytes that the client's machine has taken, and since when there are more for it. */
  taken: number;
  takenMs: number;
  /** Bytes of both directions, and when one came or went last. */
  moved: number;
  movedMs: number;
}

/** What one address has open. */
interface Client {
  connections: number;
  requests: number;
}

/** Listens. */
export async function openOnePort(options: OnePortOptions): Promise<OnePort> {
  const { headerTimeoutMs } = options;
  const connections = new Map<Socket, Connection>();
  const bySession = new WeakMap<ServerHttp2Session, Socket>();
  const clients = new Map<string, Client>();
  let requests = 0;
  let draining = false;

  /** Counts a request until its answer is sent, or refuses it. */
  const handle = (request: NodeRequest, response: NodeResponse): void => {
    const socket = "stream" in request ? socketOf(request) : request.socket;
    const connection = socket && connections.get(socket);
    if (socket === undefined || connection === undefined) return void request.destroy();
    if (socket.writableEnded) return void request.resume(); // it is closing: what was not answered yet is sent again elsewhere
    if (requests >= options.maxRequests || connection.client.requests >= options.maxRequestsPerClient)
      return void options.refuse(request, response);
    count(connection, 1);
    // Where the connection closed, all of its requests were counted down, for Node tells not every response of that.
    response.once("close", () => connections.has(socket) && count(connection, -1));
    if ("stream" in response) {
      // Streams that are reset in the same packet cost little this way.
      setImmediate(() => response.stream.destroyed || response.stream.closed || options.handler(request, response));
      return;
    }
    if (connection.requests > maxPipelined) return void socket.destroy();
    if (!draining) return void options.handler(request, response);
    // After this answer the connection closes, but where there are further requests in the same packet.
    setImmediate(() => {
      if (connection.requests === 1) response.setHeader("connection", "close");
      options.handler(request, response);
    });
  };
  const count = (connection: Connection, more: number): void => {
    requests += more;
    connection.client.requests += more;
    connection.requests += more;
    connection.idleSinceMs = performance.now();
  };
  const socketOf = (request: Http2ServerRequest): Socket | undefined =>
    request.stream.session === undefined ? undefined : bySession.get(request.stream.session as ServerHttp2Session);
  /** Node would answer by itself, outside of all limits, and on HTTP/2 throw where the stream is gone. */
  const handleExpecting = (request: NodeRequest, response: NodeResponse): void => {
    if (!("stream" in response)) response.writeContinue();
    else if (!response.stream.destroyed && !response.stream.closed) response.stream.additionalHeaders({ ":status": 100 });
    handle(request, response);
  };

  const http1 = createHttp1Server(
    { headersTimeout: headerTimeoutMs, keepAliveTimeout: idleMs, connectionsCheckingInterval: lookMs, noDelay: true },
    handle as RequestListener,
  );
  // It never listens itself. Without this event Node tracks no connections: no time limits for headers.
  http1.emit("listening");
  const http2 = createHttp2Server({ settings: { maxConcurrentStreams }, ...http2Limits }, handle);
  http1.on("connect", (_request, socket) => socket.destroy()); // Node would do so, too, but forget the answers that wait
  for (const server of [http1, http2]) server.on("checkContinue", handleExpecting).on("checkExpectation", handle);

  const server = createTcpServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    const address = socket.remoteAddress ?? "";
    const client = clients.get(address) ?? { connections: 0, requests: 0 };
    if (client.connections >= options.maxConnectionsPerClient) return void socket.destroy();
    client.connections++;
    clients.set(address, client);
    const nowMs = performance.now();
    const connection: Connection = {
      client,
      isClosing: false,
      requests: 0,
      idleSinceMs: nowMs,
      taken: 0,
      takenMs: nowMs,
      moved: 0,
      movedMs: nowMs,
    };
    connections.set(socket, connection);
    const giveUp = (): void => void socket.destroy();
    const timer = setTimeout(giveUp, headerTimeoutMs);
    socket.once("close", () => {
      clearTimeout(timer);
      connections.delete(socket);
      count(connection, -connection.requests);
      client.connections--;
      if (client.connections === 0) clients.delete(address);
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
      socket.off("readable", onReadable).off("error", giveUp).off("end", giveUp);
      socket.unshift(seen);
      if (!isHttp2) return void http1.emit("connection", socket);
      socket.allowHalfOpen = false; // as http2 expects, unlike http
      http2.once("session", (session) => {
        connection.session = session;
        bySession.set(session, socket);
        // The first request has the time of headers: of one whose headers are not complete Node tells nothing.
        connection.idleSinceMs = performance.now() - idleMs + headerTimeoutMs;
      });
      http2.emit("connection", socket);
    });
  });
  server.maxConnections = options.maxConnections;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, resolve);
  });

  const looking = setInterval(() => {
    const nowMs = performance.now();
    for (const [socket, connection] of connections) {
      const waiting = unsentBytes(socket);
      const taken = socket.bytesWritten - waiting;
      if (waiting === 0 || taken !== connection.taken) [connection.taken, connection.takenMs] = [taken, nowMs];
      const moved = socket.bytesRead + socket.bytesWritten;
      if (moved !== connection.moved) [connection.moved, connection.movedMs] = [moved, nowMs];
      // Where a client says goodbye and then breaks the protocol, Node tells no end of the session, nor of its streams.
      const isDead = connection.session?.closed === true && nowMs - connection.movedMs > idleMs;
      if (isDead || nowMs - connection.takenMs > options.unreadTimeoutMs) socket.destroy();
      else if (connection.requests === 0 && nowMs - connection.idleSinceMs > idleMs) closeIdle(socket, connection);
    }
  }, lookMs);

  return {
    async drain(giveUp) {
      draining = true;
      server.close();
      for (const { session } of connections.values()) session?.close();
      await delay(lateRequestMs, undefined, { signal: giveUp }).catch(() => {});
      let cutMs = Number.POSITIVE_INFINITY;
      for (; connections.size > 0 && performance.now() < cutMs; await delay(sweepMs)) {
        for (const [socket, connection] of connections) if (connection.requests === 0) closeIdle(socket, connection);
        if (giveUp.aborted) cutMs = Math.min(cutMs, performance.now() + flushMs);
      }
      for (const socket of connections.keys()) socket.destroy();
      clearInterval(looking);
      http1.close();
    },
  };
}

/** Closes a connection on which nothing is going on. */
function closeIdle(socket: Socket, connection: Connection): void {
  if (connection.isClosing) return;
  connection.isClosing = true;
  if (connection.session === undefined) socket.end();
  else connection.session.close(); // tells the client which requests it may send again
  // One whose client does not close it, too, is cut; not at once, for that takes away what it has not read yet.
  setTimeout(() => socket.destroy(), lingerMs).unref();
}
