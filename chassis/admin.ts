import { createServer } from "node:http";
import type { Registry } from "prom-client";
import { scrape } from "./telemetry/telemetry.ts";

/** The HTTP server for operators and probes: one for each process. */
export interface AdminServer {
  close(): void;
}

/**
 * Opens `/livez`, which answers while the process runs at all, `/readyz`, which answers 200 while
 * `isReady` says so and 503 otherwise, `/healthz`, which tells what is wrong, and `/metrics` in Prometheus's text format.
 *
 * Neighbours never count for readiness, nor does a database that has answered once: one outage would take every replica
 * out of DNS at once. So no probe asks `/healthz`: it is for people.
 */
export async function openAdmin(options: {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
  readonly isReady: () => boolean;
  /** Returns what is wrong, a line each. */
  readonly findTroubles: () => Promise<readonly string[]>;
}): Promise<AdminServer> {
  const server = createServer((request, response) => {
    const send = (status: number, text: string, type = "text/plain; charset=utf-8"): void => {
      response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(text);
    };
    if (request.method !== "GET" && request.method !== "HEAD") return send(405, "only GET\n");
    switch (request.url?.split("?")[0]) {
      case "/livez":
        return send(200, "ok\n");
      case "/readyz":
        return options.isReady() ? send(200, "ready\n") : send(503, "not ready\n");
      case "/healthz":
        options.findTroubles().then(
          (troubles) => send(troubles.length === 0 ? 200 : 503, troubles.length === 0 ? "healthy\n" : `${troubles.join("\n")}\n`),
          () => send(500, "it cannot be found out\n"),
        );
        return;
      case "/metrics":
        scrape(options.registry).then(
          (text) => send(200, text, options.registry.contentType),
          () => send(500, "metrics cannot be collected\n"),
        );
        return;
      default:
        return send(404, "there are /livez, /readyz, /healthz and /metrics\n");
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, options.host, resolve);
  });
  return {
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
