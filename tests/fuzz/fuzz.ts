import { request } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { createRandom } from "@parley/chassis/testing/random.ts";
import { contractsOf } from "@parley/gateway/contracts.ts";
import { services } from "../../services/all.ts";
import { type Suite, startSuite, tokenFor } from "../suite.ts";
import { createInputs, type Inputs, type Material, type Schema, type WholeRequest } from "./inputs.ts";

/** What became of a run. */
export interface FuzzReport {
  readonly seed: number;
  /** How many inputs of each kind were sent. */
  readonly sent: Readonly<Record<string, number>>;
  /** How many answers there were, by HTTP status or gRPC code. */
  readonly answers: Readonly<Record<string, number>>;
  /** In MiB: the JavaScript heap and what it keeps outside of itself, before and after. */
  readonly memory: { readonly before: number; readonly after: number };
  /** What should not have happened, with the input that it happened at. */
  readonly violations: readonly string[];
}

/** In which time what is whole must be answered, in milliseconds. */
const answerMs = 10_000;
/** How long an answer is waited for that may never come. */
const rawMs = 300;
const workers = 8;
/** How much more memory may be in use afterwards: caches, and code that was compiled meanwhile. */
const allowedMebibytes = 30;

/** Starts a suite, sends its gateway what nobody should, and sees that it neither crashes, hangs, fails inside nor grows. */
export async function fuzz({ seconds, seed }: { seconds: number; seed: number }): Promise<FuzzReport> {
  const suite = await startSuite({
    script: "tests/fuzz/start.ts",
    env: {
      PARLEY_LOG_LEVEL: "error",
      PARLEY_GATEWAY_HEADER_TIMEOUT: "1s",
      PARLEY_GATEWAY_BODY_TIMEOUT: "1s",
      // Above what is sent: it is there so that tokens are checked.
      PARLEY_GATEWAY_RATE_LIMIT: "100000",
      PARLEY_GATEWAY_RATE_BURST: "100000",
    },
  });
  const violations: string[] = [];
  const sent: Record<string, number> = {};
  const answers: Record<string, number> = {};
  const count = (counts: Record<string, number>, name: string): void => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  const port = Number(new URL(suite.gatewayUrl).port);
  const material = await readMaterial(
    suite.gatewayUrl,
    await Promise.all([tokenFor(suite, "alice", "customer"), tokenFor(suite, "bob", "staff")]),
  );
  const untilMs = performance.now() + seconds * 1_000;

  const attack = async (inputs: Inputs, kind: keyof Inputs, session: ClientHttp2Session): Promise<string> => {
    switch (kind) {
      case "raw":
      case "http1":
      case "http2":
        return sendBytes(port, inputs[kind]());
      case "json":
      case "url":
        return sendWhole(port, inputs[kind]());
      case "grpc":
        return sendCall(session, inputs.grpc());
    }
  };
  const run = async (worker: number): Promise<void> => {
    const random = createRandom(seed * 1_000 + worker);
    const inputs = createInputs(random, material);
    let session = connectHttp2(suite.gatewayUrl).on("error", () => {});
    while (performance.now() < untilMs && suite.process.exitCode === null) {
      const kind = random.pick<keyof Inputs>(["raw", "http1", "http2", "json", "json", "json", "url", "grpc"]);
      if (session.closed || session.destroyed) session = connectHttp2(suite.gatewayUrl).on("error", () => {});
      count(sent, kind);
      try {
        const answer = await attack(inputs, kind, session);
        if (answer !== "") count(answers, answer);
      } catch (error) {
        violations.push(`${kind}: ${error instanceof Error ? error.message : error}`);
      }
    }
    session.destroy();
  };
  /** Others are served meanwhile. */
  const look = async (): Promise<void> => {
    for (; performance.now() < untilMs; await delay(500)) {
      const response = await fetch(`${suite.gatewayUrl}/api/hello`, { signal: AbortSignal.timeout(answerMs) }).catch(String);
      if (typeof response === "string" || response.status !== 200)
        violations.push(`others are not served: ${typeof response === "string" ? response : response.status}`);
    }
  };

  try {
    // What is compiled and cached at the first use of each kind is not what is looked for.
    const warmUp = createInputs(createRandom(seed), material);
    for (let round = 0; round < 200; round++) await sendWhole(port, warmUp.json()).catch(() => {});
    const before = await memoryOf(suite, 0);
    await Promise.all([...Array.from({ length: workers }, (_, worker) => run(worker)), look()]);
    if (suite.process.exitCode !== null) violations.push(`the suite ended with ${suite.process.exitCode}: ${suite.errors.join(" ")}`);
    const after = await memoryOf(suite, before + allowedMebibytes);
    if (after > before + allowedMebibytes) violations.push(`${before} MiB were in use before, and ${after} MiB are afterwards`);
    const code = await suite.stop();
    if (code !== 0) violations.push(`the suite ended with ${code}, not in order`);
    for (const line of suite.lines) if (line.includes('"severity_text":"ERROR"')) violations.push(`logged: ${line.slice(0, 1_000)}`);
    return { seed, sent, answers, memory: { before, after }, violations };
  } finally {
    if (suite.process.exitCode === null) await suite.stop();
  }
}

async function readMaterial(url: string, tokens: string[]): Promise<Material> {
  interface Described {
    parameters: { name: string; in: string; schema: Schema }[];
    requestBody?: { content: Record<string, { schema: Schema }> };
  }
  const document: { paths: Record<string, Record<string, Described>>; components: { schemas: Record<string, Schema> } } = JSON.parse(
    await (await fetch(`${url}/openapi.json`)).text(),
  );
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, { parameters, requestBody }]) => ({
      method: method.toUpperCase(),
      path,
      query: Object.fromEntries(parameters.filter((parameter) => parameter.in === "query").map(({ name, schema }) => [name, schema])),
      body: requestBody?.content["application/json"]?.schema,
    })),
  );
  const methods = Object.keys(services).flatMap((name) =>
    contractsOf(name).flatMap((contract) => contract.methods.map((method) => `/${contract.typeName}/${method.name}`)),
  );
  return { operations, schemas: document.components.schemas, methods, tokens };
}

/** Sends bytes in a few pieces and returns the status of the first answer, if there is one. The connection is cut then. */
function sendBytes(port: number, bytes: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = "";
    const socket = connect(port, "127.0.0.1", () => {
      const half = Math.floor(bytes.length / 2);
      socket.write(bytes.subarray(0, half));
      setImmediate(() => socket.write(bytes.subarray(half)));
    });
    const end = (): void => {
      clearTimeout(timer);
      socket.destroy();
      const [, status = ""] = /^HTTP\/1\.1 (\d+)/.exec(received) ?? [];
      if (/internal error/.test(received))
        reject(new Error(`internal error at ${JSON.stringify(bytes.toString("latin1").slice(0, 2_000))}`));
      else resolve(status);
    };
    const timer = setTimeout(end, rawMs);
    socket.on("data", (chunk) => {
      if (received.length < 10_000) received += chunk.toString("latin1");
    });
    socket.on("error", end).on("close", end);
  });
}

/** Sends a request that HTTP finds no fault with, and returns the status of its answer. */
function sendWhole(port: number, { method, path, headers, body }: WholeRequest): Promise<string> {
  const shown = `${method} ${path.slice(0, 500)} ${body?.toString().slice(0, 1_000) ?? ""}`;
  return new Promise((resolve, reject) => {
    const call = request({ port, host: "127.0.0.1", method, path, headers }, async (response) => {
      response.on("error", () => {});
      const status = String(response.statusCode);
      if (status === "200") {
        call.destroy(); // some never end
        return resolve(status);
      }
      const text = (await response.setEncoding("utf8").toArray().catch(String)).toString();
      if (/internal error/.test(text)) reject(new Error(`${status} ${text.slice(0, 200)} at ${shown}`));
      else resolve(status);
    });
    call.setTimeout(answerMs, () => call.destroy(new Error("no answer in time")));
    call.on("error", (error) =>
      error.message === "no answer in time" ? reject(new Error(`${error.message} at ${shown}`)) : resolve("closed"),
    );
    call.end(body);
  });
}

/** Makes a gRPC or Connect call over HTTP/2 and returns its code or status. */
function sendCall(session: ClientHttp2Session, { path, type, body }: ReturnType<Inputs["grpc"]>): Promise<string> {
  const shown = `${path} ${type} ${body.toString("base64").slice(0, 500)}`;
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": type, te: "trailers" });
    const timer = setTimeout(() => {
      stream.destroy();
      reject(new Error(`no answer in time at ${shown}`));
    }, answerMs);
    let answer = "closed";
    let text = "";
    const settle = (headers: Record<string, unknown>): void => {
      answer = headers["grpc-status"] === undefined ? String(headers[":status"] ?? answer) : `grpc ${headers["grpc-status"]}`;
      if (/internal error/.test(decodeURIComponent(String(headers["grpc-message"] ?? "")))) reject(new Error(`${answer} at ${shown}`));
    };
    stream.on("response", settle).on("trailers", settle);
    stream.on("data", (chunk) => {
      text += chunk.toString("latin1").slice(0, 1_000);
      if (text.length > 50_000) stream.close();
    });
    stream.on("error", () => {});
    stream.on("close", () => {
      clearTimeout(timer);
      if (/internal error/.test(text)) reject(new Error(`${answer} ${text.slice(0, 300)} at ${shown}`));
      else resolve(answer);
    });
    stream.end(body);
  });
}

/** Returns how much memory is in use, when it is at most as much, or does not become less any more. */
async function memoryOf({ adminUrl, process: child }: Suite, enough: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 40; round++) {
    child.kill("SIGWINCH"); // start.ts collects garbage then
    const metrics = await (await fetch(`${adminUrl}/metrics`)).text();
    const values = [...metrics.matchAll(/^v8js_memory_(?:heap_used|external)_bytes\S* (\S+)$/gm)].map(([, value]) => Number(value));
    const mebibytes = values.reduce((sum, value) => sum + value) / 2 ** 20;
    least = Math.min(least, Math.round(mebibytes));
    if (least <= enough) break;
    await delay(250);
  }
  return least;
}
