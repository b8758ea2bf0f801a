import { join } from "node:path";
import { isMessage } from "@bufbuild/protobuf";
import { type DestinationStream, type Logger, pino } from "pino";
import { type CurrentCall, findCurrentCall } from "../rpc/current-call.ts";
import { countRepeats } from "./repeats.ts";

/** The files in which lines are kept of each process: so many, so large. */
const kept = { size: "8m", files: 4 };
/** Lines that are not written yet, in characters, beyond which further ones are dropped. */
const maxWaiting = 16 * 1024 * 1024;

export interface LogOptions {
  readonly level: string;
  /** A folder, and the name of the process's files in it, in which lines are kept too. Undefined: none. */
  readonly file?: { readonly directory: string; readonly name: string } | undefined;
  /** Where lines go too, such as to a collector. */
  readonly further?: DestinationStream | undefined;
}

/** A process's logger, whose level can change. */
export interface ProcessLog {
  readonly log: Logger;
  /** Changes the least severe level that is logged, of all that was made from the logger too. */
  setLevel(level: string): void;
}

/**
 * Creates the process's logger: JSON lines on standard output, or lines for people where that is a terminal. Fields have
 * OpenTelemetry's names (logs data model; semantic conventions), and what is logged within a call says which. An error
 * that comes again and again is logged once in ten seconds, and counted.
 */
export async function createLogger({ level, file, further }: LogOptions): Promise<ProcessLog> {
  const streams = [
    process.stdout.isTTY ? await prettyStream() : standardOutput(),
    ...(file === undefined ? [] : [await keptFiles(file.directory, file.name)]),
    ...(further === undefined ? [] : [further]),
  ];
  return createLoggerTo(
    level,
    streams.length === 1 && streams[0] !== undefined ? streams[0] : pino.multistream(streams.map((stream) => ({ level: "trace", stream }))),
  );
}

/** Creates a logger whose lines go to one place. */
export function createLoggerTo(level: string, destination: DestinationStream): ProcessLog {
  const loggers = new Set<Logger>();
  const log = pino(
    {
      level,
      base: null,
      messageKey: "body",
      timestamp: () => `,"timestamp":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ severity_text: label.toUpperCase() }), log: shown },
      serializers: { err: (error: unknown) => error },
      mixin() {
        const call = findCurrentCall();
        return call === undefined ? {} : fieldsOf(call);
      },
      hooks: { logMethod: countRepeats() },
      onChild: (child) => void loggers.add(child),
    },
    destination,
  );
  loggers.add(log);
  return {
    log,
    setLevel(to) {
      for (const one of loggers) one.level = to;
    },
  };
}

/** Returns what each line of the log says of the call that it belongs to: ids, by which the lines of all services can be brought together. */
export function fieldsOf(call: CurrentCall): Record<string, unknown> {
  const { traceId, spanId } = call.span.spanContext();
  return { trace_id: traceId, span_id: spanId, request_id: call.requestId, ...Object.fromEntries(call.about) };
}

/** Shows an error by its stack, which holds its causes', without its fields, and of a message nothing but its type: both may hold anybody's secrets. */
function shown(fields: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (name === "err" && value instanceof Error) {
      const { type, message, stack } = pino.stdSerializers.err(value);
      Object.assign(result, { "exception.type": type, "exception.message": message, "exception.stacktrace": stack });
    } else result[name] = isMessage(value) ? `a ${value.$typeName}` : value;
  }
  return result;
}

/** A log that cannot be written, to a pipe that was closed or a disk that is full, is no reason to stop serving, nor not to end. */
function standardOutput(): DestinationStream {
  const destination = pino.destination({ dest: 1, maxLength: maxWaiting });
  // At the end of the process, sonic-boom 4 tries for ever to write what could not be written.
  return destination.on("error", () => {
    destination.flushSync = () => {};
  });
}

async function keptFiles(directory: string, name: string): Promise<DestinationStream> {
  const { default: roll } = await import("pino-roll");
  const destination = await roll({
    file: join(directory, `${name}.jsonl`),
    size: kept.size,
    limit: { count: kept.files - 1, removeOtherLogFiles: true },
    mkdir: true,
    maxLength: maxWaiting,
  });
  return destination.on("error", () => {
    destination.flushSync = () => {};
  });
}

async function prettyStream(): Promise<DestinationStream> {
  const { default: pretty } = await import("pino-pretty");
  return pretty({
    messageKey: "body",
    timestampKey: "timestamp",
    levelKey: "severity_text",
    translateTime: "SYS:HH:MM:ss.l",
    include: "timestamp,severity_text",
    singleLine: true,
    messageFormat: (line) => textOf(line),
  });
}

/** Fields that a line for people leaves out, or has in its text. */
const leftOut = new Set([
  ...["timestamp", "severity_text", "body", "service.name", "trace_id", "span_id", "rpc.method", "rpc.response.status_code", "duration_ms"],
  ...["client.address", "user_agent.original", "http.request.method", "http.response.status_code", "network.protocol.version", "url.path"],
]);

/** Returns what a line says, for people: what happened where, and the fields that matter. */
export function textOf(line: Readonly<Record<string, unknown>>): string {
  const { body, duration_ms: durationMs, "service.name": service, "rpc.method": method, "rpc.response.status_code": code } = line;
  const { "http.request.method": verb, "url.path": path, "http.response.status_code": status } = line;
  const what = verb === undefined ? [method, code] : [verb, path, status, code];
  const text =
    durationMs === undefined
      ? String(body)
      : `${[...what, ...(method === undefined && verb === undefined ? [body] : [])].filter((word) => word !== undefined).join(" ")} in ${durationMs} ms`;
  const more = Object.entries(line).filter(([name]) => !leftOut.has(name));
  return [
    service === undefined ? text : `${service}: ${text}`,
    ...(more.length > 0 ? [JSON.stringify(Object.fromEntries(more))] : []),
  ].join(" ");
}
