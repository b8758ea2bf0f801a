import { once } from "node:events";
import { createServer } from "node:net";
import { SeverityNumber, trace } from "@opentelemetry/api";
import { expect, onTestFinished, test } from "vitest";
import { findFreePorts } from "../testing/ports.ts";
import { toLogRecord } from "./log-record.ts";
import { openOtlp } from "./otlp.ts";

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
])("%j keeps a process from starting, and says why", async (env, message) => {
  await expect(openOtlp(env)).rejects.toThrow(message);
});

test.each([
  [undefined, 100],
  ["0", 0],
])("of traces that begin here a share of %s is sampled", async (ratio, expected) => {
  const env = {
    OTEL_TRACES_EXPORTER: "otlp",
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    ...(ratio !== undefined && { OTEL_TRACES_SAMPLER_ARG: ratio }),
  };
  const otlp = await openOtlp(env);
  const tracer = otlp.tracerOf("orders");
  const recorded = Array.from({ length: 100 }, () => tracer?.startSpan("call")).filter((span) => span?.isRecording());
  expect(recorded).toHaveLength(expected);
  await otlp.close();
});

test("a collector that never answers does not keep a process from ending", async () => {
  const silent = createServer(() => {}).listen(await findFreePorts(1), "127.0.0.1");
  await once(silent, "listening");
  onTestFinished(() => void silent.close());
  const address = silent.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const before = process.env["OTEL_EXPORTER_OTLP_ENDPOINT"];
  process.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = `http://127.0.0.1:${port}`; // the exporter reads it by itself
  const otlp = await openOtlp(process.env);
  otlp.tracerOf("orders")?.startSpan("call").end();
  await otlp.close(); // it would take the exporter's own ten seconds, and its further tries
  if (before === undefined) delete process.env["OTEL_EXPORTER_OTLP_ENDPOINT"];
});

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
