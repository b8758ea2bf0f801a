// Prints how many calls a second the gateway answers over REST beside the same calls as Connect with JSON, in
// turns, against a suite of its own.
import { connect } from "node:net";
import { startSuite } from "../tests/suite.ts";
import { shown } from "./shown.ts";

const rounds = 7;
const secondsEach = 2;
const connections = 32;

const suite = await startSuite({ env: { PARLEY_LOG_LEVEL: "silent" } });
const port = Number(new URL(suite.gatewayUrl).port);
const hello = "/parley.greeter.v1.GreeterService/Hello";

const pairs: Record<string, { rest: string; connect: string }> = {
  "GET, one parameter": {
    rest: requestOf("GET", "/api/hello?name=Ada"),
    connect: requestOf("GET", `${hello}?encoding=json&message=${encodeURIComponent('{"name":"Ada"}')}`),
  },
  "GET, in the path": {
    rest: requestOf("GET", "/api/hello/Ada"),
    connect: requestOf("POST", hello, '{"name":"Ada"}'),
  },
  "GET, 20 products": {
    rest: requestOf("GET", "/v1/products?pageSize=20"),
    connect: requestOf("POST", "/parley.catalog.v1.CatalogService/ListProducts", '{"pageSize":20}'),
  },
};

try {
  for (const [name, ways] of Object.entries(pairs)) {
    const rates = { rest: [] as number[], connect: [] as number[] };
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 === 0 ? (["rest", "connect"] as const) : (["connect", "rest"] as const);
      for (const way of order) rates[way].push(await rateOf(ways[way]));
    }
    const ratios = rates.rest.map((rate, round) => rate / (rates.connect[round] ?? 0));
    console.log(`${name}: REST ${shown(rates.rest)} calls/s, Connect JSON ${shown(rates.connect)}, ratio ${shown(ratios, 2)}`);
  }
} finally {
  await suite.stop();
}

function requestOf(method: string, path: string, body = ""): string {
  const content = body === "" ? "" : `content-type: application/json\r\ncontent-length: ${body.length}\r\n`;
  return `${method} ${path} HTTP/1.1\r\nhost: localhost\r\n${content}\r\n${body}`;
}

/** Sends the request again and again over some connections, and returns the answers a second. Throws on one that is not 200. */
async function rateOf(request: string): Promise<number> {
  const untilMs = performance.now() + secondsEach * 1_000;
  const counts = await Promise.all(Array.from({ length: connections }, () => countAnswers(request, untilMs)));
  return counts.reduce((sum, count) => sum + count) / secondsEach;
}

/** What a client costs is little beside what is measured: it looks for the end of an answer, and reads no more of it. */
function countAnswers(request: string, untilMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let count = 0;
    let received = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(request));
    socket.setEncoding("latin1").on("error", reject);
    socket.on("data", (chunk: string) => {
      received += chunk;
      const end = received.indexOf("\r\n\r\n");
      if (end < 0) return;
      const length = Number(/content-length: (\d+)/i.exec(received)?.[1]);
      if (received.length < end + 4 + length) return;
      if (!received.startsWith("HTTP/1.1 200")) return reject(new Error(received));
      count++;
      received = "";
      if (performance.now() < untilMs) return void socket.write(request);
      socket.destroy();
      resolve(count);
    });
  });
}
