import { Agent, request } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

/** One answer that a client got, or did not get. */
export interface Answer {
  /** What was asked for: the name of a request. */
  readonly name: string;
  readonly startedMs: number;
  readonly durationMs: number;
  /** 0: the connection was cut. */
  readonly status: number;
  readonly text: string;
}

/** A request that clients make. */
export interface LoadRequest {
  readonly name: string;
  readonly path: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** A request that comes again and again, so many times a second. */
export interface Stream {
  readonly perSecond: number;
  /** Returns the next request; undefined: none is left. */
  readonly next: () => LoadRequest | undefined;
}

/** Load that goes on. */
export interface Load {
  /** All that was answered so far, in the order of the ends. */
  readonly answers: Answer[];
  /** Makes no more requests, and resolves when all have ended. */
  stop(): Promise<void>;
}

/** Connections over which they come, as from a load balancer: what these cannot take waits there, and its time counts from when it is sent. */
const connections = 256;

/** Starts to make requests, each at its time whether or not those before are answered (an open model: a slow server does not slow its clients down). */
export function startLoad(gatewayUrl: string, streams: readonly Stream[]): Load {
  const answers: Answer[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const stopped = new AbortController();
  const inProgress = new Set<Promise<void>>();
  const send = (one: LoadRequest): void => {
    const sent = ask(gatewayUrl, one, agent).then((answer) => {
      answers.push(answer);
      inProgress.delete(sent);
    });
    inProgress.add(sent);
  };
  const running = streams.map(async ({ perSecond, next }) => {
    const startedMs = performance.now();
    for (let count = 0; !stopped.signal.aborted; ) {
      const due = ((performance.now() - startedMs) * perSecond) / 1_000;
      for (; count < due; count++) {
        const one = next();
        if (one !== undefined) send(one);
      }
      await delay(Math.min(1_000 / perSecond, 10));
    }
  });
  return {
    answers,
    async stop() {
      stopped.abort();
      await Promise.all(running);
      await Promise.all(inProgress);
      agent.destroy();
    },
  };
}

/** Makes one request. It never rejects. */
export function ask(gatewayUrl: string, { name, path, method = "GET", headers = {}, body }: LoadRequest, agent: Agent): Promise<Answer> {
  let startedMs = performance.now();
  return new Promise((resolve) => {
    const end = (status: number, text: string): void =>
      resolve({ name, startedMs, durationMs: performance.now() - startedMs, status, text });
    const content = body === undefined ? {} : { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) };
    const sent = request(`${gatewayUrl}${path}`, { method, agent, headers: { ...headers, ...content } }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.once("end", () => end(response.statusCode ?? 0, text)).once("error", () => end(0, ""));
    });
    // What waits for a connection waits at the client.
    sent.once("socket", () => {
      startedMs = performance.now();
    });
    sent.once("error", (error) => end(0, String(error)));
    sent.end(body);
  });
}

/** Returns the value below which this share of the numbers lies; NaN of none. */
export function quantile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? Number.NaN;
}
