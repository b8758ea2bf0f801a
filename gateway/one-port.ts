import { once } from "node:events";
import { createServer as createHttp1Server, type RequestListener } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { connect, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { TlsFiles } from "@parley/chassis/tls-files.ts";
import { type Connection, type ConnectionLimits, createConnections, idleMs } from "./connections.ts";
import { isGone, type NodeHandler, type NodeRequest, type NodeResponse } from "./node-request.ts";

/** Connections that wait to be taken in, of each socket that listens: Node's 511 are soon full where a gateway has more to do than it can, and further ones hang for seconds. */
const backlog = 4_096;
/** Sockets that listen on one port. */
const listeningSockets = 64;

/** What a client without TLS sends first when it knows that the server speaks HTTP/2 (RFC 9113, section 3.4). */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
/** What is offered to clients with TLS, what is preferred first. */
const alpn = ["h2", "http/1.1"];
/** Requests that one HTTP/1.1 connection may send ahead of their answers, which hardly any client does. */
const maxPipelined = 20;
/**
 * Limits of an HTTP/2 connection, as options of node:http2: beyond them it is closed. A backend's
 * connection carries many users, of whom some leave, so they are above Node's 1,000 resets at once
 * and 33 a second.
 */
const http2Limits = { streamResetBurst: 2_000, streamResetRate: 1_000, maxSessionRejectedStreams: 10_000 };
/** How often Node looks for HTTP/1.1 headers that take too long. */
const lookMs = 1_000;

/** A TCP port that serves HTTP/1.1 and HTTP/2. */
export interface OnePort {
  readonly port: number;
  /** Asks clients to connect anew, those of HTTP/1.1 with their next answer, while it goes on. */
  announceDrain(): void;
  /**
   * Takes no more connections; resolves when all requests have ended and every connection is
   * closed. A second after `giveUp` fires, those that are left are cut.
   */
  drain(giveUp: AbortSignal): Promise<void>;
}

export interface OnePortOptions extends ConnectionLimits {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  readonly handler: NodeHandler;
  /** Refuses a request beyond the limits of its client or of all together, at little cost. */
  readonly refuse: (request: NodeRequest, response: NodeResponse, tooMany: "client" | "all") => void;
  /** Streams that one HTTP/2 connection may have open; a client keeps further ones back. */
  readonly maxStreams: number;
  /** The certificate that new connections are served with; undefined: they are not encrypted. */
  readonly tls: Pick<TlsFiles, "context"> | undefined;
}

/** Listens. Which HTTP a client speaks is agreed upon with TLS (ALPN, RFC 7301), and without it seen from its first bytes. */
export async function openOnePort(options: OnePortOptions): Promise<OnePort> {
  const { handler, refuse, headerTimeoutMs } = options;
  const connections = createConnections(options);
  let draining = false;

  const handle = (request: NodeRequest, response: NodeResponse, onLetIn: () => void = () => {}): void => {
    // Of a client that leaves Node tells when nobody reads any more, too, or not yet.
    request.on("error", () => {});
    const connection = connections.find(request);
    if (connection === undefined) return void request.destroy();
    if (connection.socket.writableEnded) return void request.resume(); // it is closing: what was not answered yet is sent again elsewhere
    const tooMany = connections.addRequest(connection, request, response);
    if (tooMany !== undefined) return void refuse(request, response, tooMany);
    onLetIn();
    if ("stream" in response) {
      // Streams that are reset in the same packet cost little this way.
      setImmediate(() => isGone(response) || handler(request, response));
      return;
    }
    if (connection.requests > maxPipelined) return void connection.socket.destroy();
    if (!draining) return void handler(request, response);
    // After this answer the connection closes, but where there are further requests in the same packet.
    setImmediate(() => {
      if (connection.requests === 1) response.setHeader("connection", "close");
      handler(request, response);
    });
  };
  /** Node would answer by itself, outside of all limits, and on HTTP/2 throw where the stream is gone. */
  const handleExpecting = (request: NodeRequest, response: NodeResponse): void =>
    handle(request, response, () => {
      if (!("stream" in response)) response.writeContinue();
      else if (!isGone(response)) response.stream.additionalHeaders({ ":status": 100 });
    });

  const http1 = createHttp1Server(
    { headersTimeout: headerTimeoutMs, keepAliveTimeout: idleMs, connectionsCheckingInterval: lookMs, noDelay: true },
    handle as RequestListener,
  );
  // It never listens itself. Without this event Node tracks no connections: no time limits for headers.
  http1.emit("listening");
  http1.on("connect", (_request, socket) => socket.destroy()); // Node would do so, too, but forget the answers that wait
  const http2 = createHttp2Server({ settings: { maxConcurrentStreams: options.maxStreams }, ...http2Limits }, handle);
  for (const server of [http1, http2]) server.on("checkContinue", handleExpecting).on("checkExpectation", handle);

  const serve = (connection: Connection, isHttp2: boolean): void => {
    const { socket } = connection;
    if (!isHttp2) return void http1.emit("connection", socket);
    socket.allowHalfOpen = false; // as http2 expects, unlike http
    http2.once("session", (session) => connections.setSession(connection, session));
    http2.emit("connection", socket);
    if (socket instanceof TLSSocket) socket.emit("secureConnect"); // Node says so on a client's side alone, but its HTTP/2 waits for it
  };
  const accept = (tcp: Socket): void => {
    const secureContext = options.tls?.context;
    const socket = secureContext === undefined ? tcp : new TLSSocket(tcp, { isServer: true, secureContext, ALPNProtocols: alpn });
    const connection = connections.add(socket);
    if (connection === undefined) return void socket.destroy();
    const giveUp = (): void => void socket.destroy();
    const timer = setTimeout(giveUp, headerTimeoutMs);
    socket.once("close", () => clearTimeout(timer));
    socket.on("error", giveUp).on("end", giveUp);
    const begin = (isHttp2: boolean): void => {
      clearTimeout(timer);
      socket.off("error", giveUp).off("end", giveUp);
      serve(connection, isHttp2);
    };
    if (socket instanceof TLSSocket) return void socket.once("secure", () => begin(socket.alpnProtocol === alpn[0]));
    let seen: Buffer = Buffer.alloc(0);
    socket.on("readable", function onReadable() {
      for (let chunk: Buffer | null = socket.read(); chunk !== null; chunk = socket.read()) seen = Buffer.concat([seen, chunk]);
      if (seen.length === 0) return;
      const length = Math.min(seen.length, preface.length);
      const isHttp2 = seen.subarray(0, length).equals(preface.subarray(0, length));
      if (isHttp2 && length < preface.length) return; // the rest is on its way
      socket.off("readable", onReadable);
      socket.unshift(seen);
      begin(isHttp2);
    });
  };
  const { port, servers } = await listen(options, accept);

  return {
    port,
    announceDrain() {
      draining = true;
      connections.announceDrain();
    },
    async drain(giveUp) {
      draining = true;
      for (const server of servers) server.close();
      await connections.drain(giveUp);
      http1.close();
    },
  };
}

/**
 * Listens, with several sockets where the system lets them share a port: since 1.45, libuv takes in one connection from each in a turn of the
 * event loop, and a turn is long where there is much to do.
 */
async function listen(
  { host, port: wanted }: OnePortOptions,
  accept: (socket: Socket) => void,
): Promise<{ port: number; servers: Server[] }> {
  const isShared = process.platform === "linux";
  const open = async (port: number): Promise<Server> => {
    const server = createTcpServer({ noDelay: true, allowHalfOpen: true }, accept);
    server.listen({ port, host, backlog, reusePort: isShared });
    await once(server, "listening");
    return server;
  };
  // Another gateway would share the port with this one; two that start at once do.
  if (isShared && wanted !== 0 && (await isAnswered(wanted, host))) throw new Error(`EADDRINUSE: somebody answers at port ${wanted}`);
  const first = await open(wanted);
  const address = first.address();
  const port = typeof address === "object" && address !== null ? address.port : wanted;
  const others = isShared ? await Promise.all(Array.from({ length: listeningSockets - 1 }, () => open(port))) : [];
  return { port, servers: [first, ...others] };
}

async function isAnswered(port: number, host: string): Promise<boolean> {
  const socket = connect({ port, host });
  try {
    await once(socket, "connect", { signal: AbortSignal.timeout(1_000) });
    return true;
  } catch (error) {
    return error instanceof Error && error.name === "AbortError"; // it is frozen
  } finally {
    socket.destroy();
  }
}
