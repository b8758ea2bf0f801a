import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";

/** A span, as far as tests look at it. */
export interface CollectedSpan {
  readonly serviceName: string;
  readonly name: string;
  /** `SERVER`, `CLIENT`, `CONSUMER` or `INTERNAL`. */
  readonly kind: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly links: readonly string[];
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly isError: boolean;
}

/** A line of a log. */
export interface CollectedLog {
  readonly serviceName: string;
  readonly traceId: string;
  readonly body: unknown;
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** Something like an OpenTelemetry collector, which takes OTLP over HTTP as JSON and keeps it. */
export interface Collector {
  readonly url: string;
  readonly spans: CollectedSpan[];
  readonly logs: CollectedLog[];
  close(): void;
}

const kinds = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];

/** Opens a collector on the loopback interface. */
export async function openCollector(): Promise<Collector> {
  const spans: CollectedSpan[] = [];
  const logs: CollectedLog[] = [];
  const server = createServer(async (request, response) => {
    const body = await read(request);
    for (const { resource, scopeSpans = [], scopeLogs = [] } of [...(body.resourceSpans ?? []), ...(body.resourceLogs ?? [])]) {
      const serviceName = String(valuesOf(resource?.attributes)["service.name"]);
      for (const span of scopeSpans.flatMap((scope) => scope.spans)) {
        const { name, kind = 0, traceId, spanId, parentSpanId = "", links = [], attributes, status } = span;
        const linked = links.map((link) => link.spanId);
        const isError = status?.code === 2;
        spans.push({
          serviceName,
          name,
          kind: kinds[kind] ?? "",
          traceId,
          spanId,
          parentSpanId,
          links: linked,
          attributes: valuesOf(attributes),
          isError,
        });
      }
      for (const { traceId = "", body: text, attributes } of scopeLogs.flatMap((scope) => scope.logRecords))
        logs.push({ serviceName, traceId, body: text?.stringValue, attributes: valuesOf(attributes) });
    }
    response.writeHead(200, { "content-type": "application/json" }).end("{}");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    spans,
    logs,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** OTLP's JSON, as far as it is read (opentelemetry-proto, trace/v1 and logs/v1). */
interface Body {
  readonly resourceSpans?: readonly Resource[];
  readonly resourceLogs?: readonly Resource[];
}

interface Resource {
  readonly resource?: { readonly attributes: readonly Attribute[] };
  readonly scopeSpans?: readonly { readonly spans: readonly Span[] }[];
  readonly scopeLogs?: readonly { readonly logRecords: readonly LogRecord[] }[];
}

interface Span {
  readonly name: string;
  readonly kind?: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly links?: readonly { readonly spanId: string }[];
  readonly attributes: readonly Attribute[];
  readonly status?: { readonly code?: number };
}

interface LogRecord {
  readonly traceId?: string;
  readonly body?: { readonly stringValue?: string };
  readonly attributes: readonly Attribute[];
}

interface Attribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

async function read(request: IncomingMessage): Promise<Body> {
  return (await json(request)) as Body;
}

function valuesOf(attributes: readonly Attribute[] = []): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
