import { constants, type ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { flushMs } from "@parley/chassis/rpc/shutdown.ts";
import { type ClientAddresses, clientKeyOf } from "./client-address.ts";
import { cut, type NodeRequest, type NodeResponse, unsentBytes } from "./node-request.ts";

/** Time that a connection has to send the next request, whatever else it sends. */
export const idleMs = 60_000;
/** How often connections are looked at. */
const lookMs = 1_000;
/** While draining, time that clients have to send what is on its way on a connection that looks idle. */
const lateRequestMs = 500;
/** While draining, how often connections that have become idle are closed. */
const sweepMs = 20;
/** Of any stream there can be: none is refused by it. */
const lastStreamId = 2 ** 31 - 1;
/** Time that a client has to read what was sent, and to close a connection that we have closed. */
const lingerMs = 10_000;

export interface ConnectionLimits {
  /** Time for a connection's first bytes and for each request's headers. */
  readonly headerTimeoutMs: number;
  /**
   * After which a connection is closed whose client takes nothing of what is sent to it, and after
   * twice of which a stream of HTTP/2 ends whose answer waits.
   */
  readonly unreadTimeoutMs: number;
  readonly addresses: ClientAddresses;
  readonly maxConnections: number;
  /** Not for proxies that are trusted: theirs are of many clients. */
  readonly maxConnectionsPerClient: number;
  readonly maxRequests: number;
  readonly maxRequestsPerClient: number;
}

/** An open connection. */
export interface Connection {
  readonly socket: Socket;
  /** Undefined: it is HTTP/1.1, or not known yet. */
  readonly session: ServerHttp2Session | undefined;
  /** Requests whose answers are not sent to their end. */
  readonly requests: number;
}

/**
 * The connections of a port. Whatever their clients do or leave undone, they end: the idle ones, and
 * those that take nothing of what is sent to them.
 */
export interface Connections {
  /** Returns undefined where the client's address, or all together, have as many as they may have. */
  add(socket: Socket): Connection | undefined;
  /** Says that the connection is HTTP/2. Its first request has the time of headers. */
  setSession(connection: Connection, session: ServerHttp2Session): void;
  /** Returns the connection of a request; undefined where it is gone. */
  find(request: NodeRequest): Connection | undefined;
  /** Counts a request until its answer is sent, or returns of whom there are too many: its client, or all together. */
  addRequest(connection: Connection, request: NodeRequest, response: NodeResponse): "client" | "all" | undefined;
  /** Tells the clients of HTTP/2 to send further requests over another connection; those that come are answered (RFC 9113, section 6.8). */
  announceDrain(): void;
  /** Resolves when all requests have ended and every connection is closed; cuts those that are left a second after the signal fires. */
  drain(giveUp: AbortSignal): Promise<void>;
}

interface State extends Connection {
  session: ServerHttp2Session | undefined;
  /** Answers that are not sent to their end. */
  readonly answers: Map<NodeResponse, OpenAnswer>;
  isClosing: boolean;
  /** When it had no requests for the first time. */
  idleSinceMs: number;
  /** Bytes that the client's machine has taken, and since when there are more for it. */
  taken: number;
  takenMs: number;
  /** Bytes of both directions, and when one came or went last. */
  moved: number;
  movedMs: number;
}

interface OpenAnswer {
  readonly client: string;
  /** Since when there is something of it that the client does not take. */
  sinceMs: number | undefined;
}

export function createConnections(limits: ConnectionLimits): Connections {
  const states = new Map<Socket, State>();
  const bySession = new WeakMap<object, State>();
  const { addresses } = limits;
  const [connectionsOf, requestsOf] = [createTally(), createTally()];
  let requests = 0;

  const looking = setInterval(() => {
    for (const state of states.values()) look(state);
  }, lookMs).unref();

  function look(state: State): void {
    const { socket, session, answers } = state;
    const nowMs = performance.now();
    const waiting = unsentBytes(socket);
    const taken = socket.bytesWritten - waiting;
    if (waiting === 0 || taken !== state.taken) [state.taken, state.takenMs] = [taken, nowMs];
    const moved = socket.bytesRead + socket.bytesWritten;
    if (moved !== state.moved) [state.moved, state.movedMs] = [moved, nowMs];
    // Where a client says goodbye and then breaks the protocol, Node tells no end of the session, nor of its streams.
    const isDead = session?.closed === true && nowMs - state.movedMs > idleMs;
    if (isDead || nowMs - state.takenMs > limits.unreadTimeoutMs) socket.destroy();
    else if (answers.size === 0 && nowMs - state.idleSinceMs > idleMs) closeIdle(state);
    else for (const [response, answer] of answers) lookAtAnswer(response, answer, nowMs);
  }

  /** Of a stream that a client does not read, the connection may take others. Whatever else the client sends counts for nothing. */
  function lookAtAnswer(response: NodeResponse, answer: OpenAnswer, nowMs: number): void {
    if (!("stream" in response)) return;
    if (response.stream.writableLength === 0) answer.sinceMs = undefined;
    else if (answer.sinceMs === undefined) answer.sinceMs = nowMs;
    else if (nowMs - answer.sinceMs > 2 * limits.unreadTimeoutMs) cut(response);
  }

  function endRequest({ client }: OpenAnswer): void {
    requests--;
    requestsOf.subtract(client);
  }

  function announceDrain(): void {
    for (const { session } of states.values()) if (session?.closed === false) session.goaway(constants.NGHTTP2_NO_ERROR, lastStreamId);
  }

  /** Closes a connection on which nothing is going on. */
  function closeIdle(state: State): void {
    if (state.isClosing) return;
    state.isClosing = true;
    if (state.session === undefined) state.socket.end();
    else state.session.close(); // tells the client which requests it may send again
    // One whose client does not close it, too, is cut; not at once, for that takes away what it has not read yet.
    setTimeout(() => state.socket.destroy(), lingerMs).unref();
  }

  return {
    add(socket) {
      if (states.size >= limits.maxConnections) return undefined;
      const peer = addresses.peerOf(socket);
      const client = clientKeyOf(peer);
      if (!addresses.isProxy(peer) && connectionsOf.get(client) >= limits.maxConnectionsPerClient) return undefined;
      connectionsOf.add(client);
      const nowMs = performance.now();
      const state: State = {
        socket,
        session: undefined,
        answers: new Map(),
        get requests() {
          return this.answers.size;
        },
        isClosing: false,
        idleSinceMs: nowMs,
        taken: 0,
        takenMs: nowMs,
        moved: 0,
        movedMs: nowMs,
      };
      states.set(socket, state);
      socket.once("close", () => {
        states.delete(socket);
        for (const answer of state.answers.values()) endRequest(answer); // Node tells not every response that its connection closed
        connectionsOf.subtract(client);
      });
      return state;
    },
    setSession({ socket }, session) {
      const state = states.get(socket);
      if (state === undefined) return;
      state.session = session;
      bySession.set(session, state);
      // Of a request whose headers are not complete Node tells nothing: it counts as idle.
      state.idleSinceMs = performance.now() - idleMs + limits.headerTimeoutMs;
    },
    find(request) {
      if (!("stream" in request)) return states.get(request.socket);
      const { session } = request.stream;
      return session && bySession.get(session);
    },
    addRequest({ socket }, request, response) {
      const state = states.get(socket);
      const client = clientKeyOf(addresses.clientOf(request));
      if (state === undefined || requests >= limits.maxRequests) return "all";
      if (requestsOf.get(client) >= limits.maxRequestsPerClient) return "client";
      requests++;
      requestsOf.add(client);
      const answer: OpenAnswer = { client, sinceMs: undefined };
      state.answers.set(response, answer);
      response
        .on("drain", () => {
          answer.sinceMs = undefined;
        })
        .once("close", () => {
          if (!states.has(socket) || !state.answers.delete(response)) return;
          endRequest(answer);
          state.idleSinceMs = performance.now();
        });
      return undefined;
    },
    announceDrain,
    async drain(giveUp) {
      announceDrain();
      await delay(lateRequestMs, undefined, { signal: giveUp }).catch(() => {});
      for (const { session } of states.values()) session?.close();
      let cutMs = Number.POSITIVE_INFINITY;
      for (; states.size > 0 && performance.now() < cutMs; await delay(sweepMs)) {
        for (const state of states.values()) if (state.requests === 0) closeIdle(state);
        if (giveUp.aborted) cutMs = Math.min(cutMs, performance.now() + flushMs);
      }
      for (const socket of states.keys()) socket.destroy();
      clearInterval(looking);
    },
  };
}

/** Counts by client; those with nothing are forgotten. */
function createTally() {
  const counts = new Map<string, number>();
  const get = (client: string): number => counts.get(client) ?? 0;
  return {
    get,
    add: (client: string): void => void counts.set(client, get(client) + 1),
    subtract(client: string): void {
      if (get(client) > 1) counts.set(client, get(client) - 1);
      else counts.delete(client);
    },
  };
}
