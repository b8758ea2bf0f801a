import { type LogRecord, ROOT_CONTEXT, SeverityNumber, TraceFlags, trace } from "@opentelemetry/api";

/** Returns a line of the log as OpenTelemetry's data model has it, and the component that it is of. */
export function toLogRecord(line: string): { serviceName: string; record: LogRecord } {
  const {
    timestamp,
    severity_text: severityText,
    body,
    trace_id: traceId,
    span_id: spanId,
    "service.name": serviceName,
    ...attributes
  } = JSON.parse(line);
  const hasTrace = typeof traceId === "string" && typeof spanId === "string";
  return {
    serviceName: String(serviceName ?? "parley"),
    record: {
      timestamp: Date.parse(timestamp),
      severityText,
      severityNumber: severities[String(severityText)] ?? SeverityNumber.INFO,
      body,
      attributes,
      ...(hasTrace && { context: trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags: TraceFlags.NONE }) }),
    },
  };
}

const severities: Readonly<Record<string, SeverityNumber>> = {
  TRACE: SeverityNumber.TRACE,
  DEBUG: SeverityNumber.DEBUG,
  INFO: SeverityNumber.INFO,
  WARN: SeverityNumber.WARN,
  ERROR: SeverityNumber.ERROR,
  FATAL: SeverityNumber.FATAL,
};
