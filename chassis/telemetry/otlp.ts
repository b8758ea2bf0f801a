import { setTimeout as delay } from "node:timers/promises";
import { DiagLogLevel, diag, type Tracer } from "@opentelemetry/api";
import type { Sampler } from "@opentelemetry/sdk-trace";
import type { DestinationStream, Logger } from "pino";
import { runOutsideOfCalls } from "../rpc/current-call.ts";
import { StartError } from "../start-error.ts";

/** How long the end of a process waits for a collector that does not answer, in milliseconds. */
const closeMs = 2_000;

/** What is sent to a collector by OTLP over HTTP. */
export interface Otlp {
  /** Returns what makes the spans of a component; undefined: traces are not sent. */
  tracerOf(serviceName: string): Tracer | undefined;
  /** Where log lines go; undefined: they are not sent. */
  readonly logs: DestinationStream | undefined;
  /** Logs what is wrong with its variables, and from now on what the collector did not take. */
  tellTroubles(log: Logger): void;
  /** Sends what waits to be sent. */
  close(): Promise<void>;
}

/** The variables of OpenTelemetry that are read here; those of the exporters, such as headers and timeouts, the exporters read. */
type Variables = NodeJS.ProcessEnv;

/**
 * Opens what the standard variables ask for: traces where `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` says where
 * to, or `OTEL_TRACES_EXPORTER` is `otlp`; log lines where `OTEL_LOGS_EXPORTER` is `otlp`. Nothing of OpenTelemetry's SDK is loaded for
 * what is not asked for. Throws StartError for a sampler, an exporter or a protocol that there is not here, and a place that is none.
 */
export async function openOtlp(env: Variables): Promise<Otlp> {
  if (env["OTEL_SDK_DISABLED"]?.toLowerCase() === "true") return nothing;
  const endpoint = env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] || env["OTEL_EXPORTER_OTLP_ENDPOINT"];
  const isTraced = isChosen(env, "OTEL_TRACES_EXPORTER", endpoint ? "otlp" : "none");
  const isLogged = isChosen(env, "OTEL_LOGS_EXPORTER", "none");
  if (!isTraced && !isLogged) return nothing;
  for (const variable of ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]) {
    const url = env[variable] || "http://localhost:4318";
    if (!["http:", "https:"].includes(URL.parse(url)?.protocol ?? ""))
      throw new StartError(`${variable}: "${url}" is wrong; expected a URL`);
  }
  for (const variable of ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL"]) {
    const protocol = env[variable] || "http/json";
    // Whoever takes OTLP over HTTP takes both forms, at the same address (OTLP specification, OTLP/HTTP).
    if (!protocol.startsWith("http/")) throw new StartError(`${variable}: "${protocol}" is wrong; what is sent goes over HTTP, as JSON`);
  }
  const early: string[] = []; // there is no log yet
  let tell = (text: string): void => void early.push(text);
  const trouble = (text: string): void => tell(text);
  const ignore = (): void => {};
  const logger = { error: trouble, warn: trouble, info: ignore, debug: ignore, verbose: ignore };
  diag.setLogger(logger, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  const resourceOf = await openResources();
  const traces = isTraced ? await openTraces(env, resourceOf) : undefined;
  const logs = isLogged ? await openLogs(resourceOf) : undefined;
  return {
    tracerOf: (serviceName) => traces?.tracerOf(serviceName),
    logs: logs?.stream,
    tellTroubles: (log) => {
      // Not within the call that happened to start a timer.
      tell = (text) => runOutsideOfCalls(() => log.warn({ "error.message": messageOf(text) }, "OpenTelemetry cannot do what it should"));
      for (const text of early.splice(0)) tell(text);
    },
    async close() {
      const enough = new AbortController();
      const all = Promise.allSettled([traces?.close(), logs?.close()]);
      await Promise.race([all, delay(closeMs, undefined, { signal: enough.signal }).catch(() => {})]);
      enough.abort();
    },
  };
}

const nothing: Otlp = { tracerOf: () => undefined, logs: undefined, tellTroubles: () => {}, close: async () => {} };

/** The SDK tells of an error by its fields, as JSON. */
function messageOf(text: string): string {
  try {
    return String(JSON.parse(text).message);
  } catch {
    return text;
  }
}

function isChosen(env: Variables, variable: string, byDefault: string): boolean {
  const chosen = env[variable] || byDefault;
  if (chosen !== "otlp" && chosen !== "none") throw new StartError(`${variable}: "${chosen}" is wrong; expected otlp or none`);
  return chosen === "otlp";
}

async function openTraces(env: Variables, resourceOf: Resources) {
  const { BatchSpanProcessor, TracerProvider } = await import("@opentelemetry/sdk-trace");
  const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-http");
  // The processes' components share one: what waits to be sent is bounded for all.
  const processor = new BatchSpanProcessor({ exporter: new OTLPTraceExporter() });
  const sampler = await samplerOf(env);
  return {
    tracerOf: (serviceName: string): Tracer =>
      new TracerProvider({ sampler, spanProcessors: [processor], resource: resourceOf(serviceName) }).getTracer("parley"),
    close: () => processor.shutdown(),
  };
}

async function openLogs(resourceOf: Resources) {
  const { BatchLogRecordProcessor, LoggerProvider } = await import("@opentelemetry/sdk-logs");
  const { OTLPLogExporter } = await import("@opentelemetry/exporter-logs-otlp-http");
  const { toLogRecord } = await import("./log-record.ts");
  const processor = new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() });
  const providers = new Map<string, InstanceType<typeof LoggerProvider>>();
  const stream: DestinationStream = {
    write(text) {
      const { serviceName, record } = toLogRecord(text);
      const provider = providers.get(serviceName) ?? new LoggerProvider({ processors: [processor], resource: resourceOf(serviceName) });
      providers.set(serviceName, provider);
      provider.getLogger("parley").emit(record);
    },
  };
  return { stream, close: () => processor.shutdown() };
}

/** Returns what makes the resource of a component: `OTEL_RESOURCE_ATTRIBUTES`, and its name. */
async function openResources() {
  const { defaultResource, detectResources, envDetector, resourceFromAttributes } = await import("@opentelemetry/resources");
  const common = defaultResource().merge(detectResources({ detectors: [envDetector] }));
  const instance = { "service.instance.id": crypto.randomUUID(), "process.pid": process.pid };
  return (serviceName: string) =>
    common.merge(resourceFromAttributes({ "service.namespace": "parley", ...instance, "service.name": serviceName }));
}

type Resources = Awaited<ReturnType<typeof openResources>>;

/** Returns the sampler of `OTEL_TRACES_SAMPLER`, by OpenTelemetry's specification of the SDK's variables. */
async function samplerOf(env: Variables) {
  const { AlwaysOffSampler, AlwaysOnSampler, ParentBasedSampler, TraceIdRatioBasedSampler } = await import("@opentelemetry/sdk-trace");
  const name = env["OTEL_TRACES_SAMPLER"] || "parentbased_always_on";
  const text = env["OTEL_TRACES_SAMPLER_ARG"] || "1";
  const ratio = Number(text);
  if (!(ratio >= 0 && ratio <= 1)) throw new StartError(`OTEL_TRACES_SAMPLER_ARG: "${text}" is wrong; expected a ratio, 0 to 1`);
  const roots = new Map<string, () => Sampler>([
    ["always_on", () => new AlwaysOnSampler()],
    ["always_off", () => new AlwaysOffSampler()],
    ["traceidratio", () => new TraceIdRatioBasedSampler(ratio)],
  ]);
  const root = roots.get(name.replace(/^parentbased_/, ""))?.();
  if (root === undefined) {
    const names = [...roots.keys()].flatMap((one) => [one, `parentbased_${one}`]);
    throw new StartError(`OTEL_TRACES_SAMPLER: "${name}" is wrong; expected one of ${names.join(", ")}`);
  }
  return name.startsWith("parentbased_") ? new ParentBasedSampler({ root }) : root;
}
