import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Server } from "node:net";
import { SeverityNumber, trace } from "@opentelemetry/api";
import { expect, onTestFinished, test, vi } from "vitest";
import { eventually } from "../testing/eventually.ts";
import { createLoggerTo } from "./log.ts";
import { toLogRecord } from "./log-record.ts";
import { type Otlp, openOtlp } from "./otlp.ts";

test.each([
  [{}, false, false],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" }, true, false],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://127.0.0.1:9/v1/traces" }, true, false],
  [{ OTEL_TRACES_EXPORTER: "otlp", OTEL_LOGS_EXPORTER: "otlp" }, true, true],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9", OTEL_TRACES_EXPORTER: "none" }, false, false],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9", OTEL_LOGS_EXPORTER: "otlp", OTEL_SDK_DISABLED: "true" }, false, false],
])("%j sends traces: %s, logs: %s", async (env, traces, logs) => {
  const otlp = await openOtlp(env);
  expect([otlp.tracerOf("orders") !== undefined, otlp.logs !== undefined]).toEqual([traces, logs]);
  await otlp.close();
});

test.each([
  [{ OTEL_TRACES_EXPORTER: "zipkin" }, 'OTEL_TRACES_EXPORTER: "zipkin" is wrong; expected otlp or none'],
  [{ OTEL_TRACES_EXPORTER: "otlp", OTEL_TRACES_SAMPLER: "jaeger_remote" }, 'OTEL_TRACES_SAMPLER: "jaeger_remote" is wrong'],
  [
    { OTEL_TRACES_EXPORTER: "otlp", OTEL_TRACES_SAMPLER: "parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG: "7" },
    'OTEL_TRACES_SAMPLER_ARG: "7" is wrong',
  ],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" }, 'OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" is wrong; expected a URL'],
  [{ OTEL_TRACES_EXPORTER: "otlp", OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, 'OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" is wrong'],
])("%j keeps a process from starting, and says why", async (env, message) => {
  await expect(openOtlp(env)).rejects.toThrow(message);
});

test.each([
  ["parentbased_traceidratio", undefined, 100],
  ["parentbased_traceidratio", "0", 0],
  ["traceidratio", "0", 0],
  ["always_on", undefined, 100],
  ["parentbased_always_off", undefined, 0],
])("sampler %s with argument %s records of 100 traces that begin here %i", async (sampler, argument, expected) => {
  const env = {
    OTEL_TRACES_EXPORTER: "otlp",
    OTEL_TRACES_SAMPLER: sampler,
    ...(argument !== undefined && { OTEL_TRACES_SAMPLER_ARG: argument }),
  };
  const otlp = await openOtlp(env);
  const tracer = otlp.tracerOf("orders");
  const recorded = Array.from({ length: 100 }, () => tracer?.startSpan("call")).filter((span) => span?.isRecording());
  expect(recorded).toHaveLength(expected);
  await otlp.close();
});

test("a collector that never answers does not keep a process from ending", async () => {
  const otlp = await openTo(createServer(() => {}));
  otlp.tracerOf("orders")?.startSpan("call").end();
  await otlp.close(); // it would take the exporter's own ten seconds, and its further tries
});

test("of a collector that does not take what is sent the log tells", async () => {
  const otlp = await openTo(createHttpServer((_, response) => void response.writeHead(400).end()));
  onTestFinished(otlp.close);
  const lines: string[] = [];
  otlp.tellTroubles(createLoggerTo("info", { write: (line) => void lines.push(line) }).log);
  otlp.tracerOf("orders")?.startSpan("call").end();
  await eventually(() => expect(lines.join("")).toContain('"body":"OpenTelemetry cannot do what it should"'));
});

/** Opens what sends traces to this server. */
async function openTo(collector: Server): Promise<Otlp> {
  await once(collector.listen(0, "127.0.0.1"), "listening");
  const address = collector.address();
  const port = typeof address === "object" ? address?.port : undefined;
  vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", `http://127.0.0.1:${port}`); // the exporter reads it by itself
  onTestFinished(() => {
    collector.close();
    vi.unstubAllEnvs();
  });
  return await openOtlp(process.env);
}

test("a line of the log is a record of OpenTelemetry's, with its trace, and the rest as attributes", () => {
  const line = {
    severity_text: "WARN",
    timestamp: "2026-11-26T08:00:00.000Z",
    "service.name": "orders",
    trace_id: "4bf92f3577b34da6a3ce929d0e0e4736",
    span_id: "00f067aa0ba902b7",
    order_id: "1",
    body: "late",
  };
  const { serviceName, record } = toLogRecord(JSON.stringify(line));
  expect(serviceName).toBe("orders");
  expect(record).toMatchObject({ severityText: "WARN", severityNumber: SeverityNumber.WARN, body: "late", attributes: { order_id: "1" } });
  expect(record.context && trace.getSpanContext(record.context)).toMatchObject({ traceId: line.trace_id, spanId: line.span_id });
});
