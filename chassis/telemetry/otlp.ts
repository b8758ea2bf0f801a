import { setTimeout as delay } from "node:timers/promises";
import type { Tracer } from "@opentelemetry/api";
import type { DestinationStream } from "pino";
import { StartError } from "../start-error.ts";

/** How long the end of a process waits for a collector that does not answer, in milliseconds. */
const closeMs = 2_000;

/** What is sent to a collector by OTLP over HTTP. */
export interface Otlp {
  /** Returns what makes the spans of a component; undefined: traces are not sent. */
  tracerOf(serviceName: string): Tracer | undefined;
  /** Where log lines go; undefined: they are not sent. */
  readonly logs: DestinationStream | undefined;
  /** Sends what waits to be sent. */
  close(): Promise<void>;
}

/** The variables of OpenTelemetry that are read here; those of the exporters, such as headers and timeouts, the exporters read. */
type Variables = NodeJS.ProcessEnv;

/**
 * Opens what the standard variables ask for: traces where `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` says where
 * to, or `OTEL_TRACES_EXPORTER` is `otlp`; log lines where `OTEL_LOGS_EXPORTER` is `otlp`. Nothing of OpenTelemetry's SDK is loaded for
 * what is not asked for. Throws StartError for a sampler or an exporter that there is not here.
 */
export async function openOtlp(env: Variables): Promise<Otlp> {
  if (env["OTEL_SDK_DISABLED"]?.toLowerCase() === "true") return nothing;
  const endpoint = env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] || env["OTEL_EXPORTER_OTLP_ENDPOINT"];
  const isTraced = isChosen(env, "OTEL_TRACES_EXPORTER", endpoint ? "otlp" : "none");
  const isLogged = isChosen(env, "OTEL_LOGS_EXPORTER", "none");
  if (!isTraced && !isLogged) return nothing;
  const resourceOf = await openResources();
  const traces = isTraced ? await openTraces(env, resourceOf) : undefined;
  const logs = isLogged ? await openLogs(resourceOf) : undefined;
  return {
    tracerOf: (serviceName) => traces?.tracerOf(serviceName),
    logs: logs?.stream,
    async close() {
      const enough = new AbortController();
      const all = Promise.allSettled([traces?.close(), logs?.close()]);
      await Promise.race([all, delay(closeMs, undefined, { signal: enough.signal }).catch(() => {})]);
      enough.abort();
    },
  };
}

const nothing: Otlp = { tracerOf: () => undefined, logs: undefined, close: async () => {} };

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

/** The samplers of OpenTelemetry's specification, by `OTEL_TRACES_SAMPLER`, that decide for a trace as a whole: by its beginning. */
async function samplerOf(env: Variables) {
  const { AlwaysOffSampler, AlwaysOnSampler, ParentBasedSampler, TraceIdRatioBasedSampler } = await import("@opentelemetry/sdk-trace");
  const name = env["OTEL_TRACES_SAMPLER"] || "parentbased_always_on";
  const text = env["OTEL_TRACES_SAMPLER_ARG"] || "1";
  const ratio = Number(text);
  if (!(ratio >= 0 && ratio <= 1)) throw new StartError(`OTEL_TRACES_SAMPLER_ARG: "${text}" is wrong; expected a ratio, 0 to 1`);
  switch (name) {
    case "parentbased_always_on":
      return new ParentBasedSampler({ root: new AlwaysOnSampler() });
    case "parentbased_always_off":
      return new ParentBasedSampler({ root: new AlwaysOffSampler() });
    case "parentbased_traceidratio":
      return new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) });
    default:
      throw new StartError(
        `OTEL_TRACES_SAMPLER: "${name}" is wrong; expected parentbased_always_on, parentbased_always_off or parentbased_traceidratio`,
      );
  }
}
