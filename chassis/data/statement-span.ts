import { type Span, SpanKind } from "@opentelemetry/api";
import { DatabaseError } from "pg";
import { findCurrentCall } from "../rpc/current-call.ts";
import { endSpan, startSpan } from "../telemetry/trace.ts";

/** The longest text of a statement that a span has, in characters. */
const maxLength = 2_000;

/** Starts the span of a statement within the current call's, where that is recorded: with its text, in which parameters stand for all values. */
export function startStatementSpan(text: string): Span | undefined {
  const call = findCurrentCall();
  if (call?.tracer === undefined || !call.span.isRecording()) return undefined;
  const summary = summaryOf(text);
  const attributes = { "db.system.name": "postgresql", "db.query.text": text.slice(0, maxLength), "db.query.summary": summary };
  return startSpan(call.tracer, summary, { kind: SpanKind.CLIENT, parent: call.span.spanContext(), attributes });
}

export function endStatementSpan(span: Span, error?: unknown): void {
  if (error === undefined) return void endSpan(span);
  // Not the message itself, which may tell a value.
  const type = (error instanceof DatabaseError && error.code) || (error instanceof Error ? error.name : "unknown");
  endSpan(span, { type, message: "the statement failed" });
}

/** Returns what a statement does to which table, such as `SELECT product` (OpenTelemetry's semantic conventions, db.query.summary). */
export function summaryOf(text: string): string {
  const plain = text.replace(/\/\*.*?\*\//gs, " ").trim();
  const [, table] = /\b(?:from|into|update|table)\s+"?([a-z_]\w*)/i.exec(plain) ?? [];
  const verb = /^\s*(\w+)/.exec(plain)?.[1]?.toUpperCase() ?? "";
  const does = verb === "WITH" ? (/\b(insert|update|delete)\b/i.exec(plain)?.[1]?.toUpperCase() ?? "SELECT") : verb;
  return table === undefined ? does : `${does} ${table}`;
}
