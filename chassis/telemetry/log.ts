import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isMessage } from "@bufbuild/protobuf";
import { type DestinationStream, type Logger, pino } from "pino";
import sonicBoom, { type SonicBoom } from "sonic-boom";
import { findCurrentCall } from "../rpc/current-call.ts";
import { StartError } from "../start-error.ts";
import { fieldsOf } from "./log-fields.ts";
import { textOf } from "./log-text.ts";
import { countRepeats } from "./repeats.ts";

/** The files in which lines are kept of each process: so many, so large. */
const kept = { size: "8m", files: 4 };
/** Lines that are not written yet, in characters, beyond which further ones are dropped. */
const maxWaiting = 16 * 1024 * 1024;
/** How long the end of a process waits for who reads its lines, in milliseconds. */
const maxFlushMs = 1_000;
/** What is done of what was logged at the end of the process. */
const atExit: (() => void)[] = [];
process.on("exit", () => {
  for (const end of atExit) end();
});

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
 * that comes again and again is logged once in ten seconds, and counted. Throws StartError where lines cannot be kept.
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

/** Changes the fields of a line, which are nobody else's: shows an error by its stack, which holds its causes', without its fields, and of a message nothing but its type: both may hold anybody's secrets. */
function shown(fields: Record<string, unknown>): Record<string, unknown> {
  for (const [name, value] of Object.entries(fields)) if (isMessage(value)) fields[name] = `a ${value.$typeName}`;
  const error = fields["err"];
  if (!(error instanceof Error)) return fields;
  const { type, message, stack } = pino.stdSerializers.err(error);
  return { ...fields, err: undefined, "exception.type": type, "exception.message": message, "exception.stacktrace": stack };
}

/** Standard output. What is logged in one turn of the event loop is written at its end, in one piece. */
function standardOutput(): DestinationStream {
  let endedMs: number | undefined;
  const retryEAGAIN = (): boolean => endedMs === undefined || performance.now() - endedMs < maxFlushMs;
  const destination = new sonicBoom.SonicBoom({ fd: 1, maxLength: maxWaiting, retryEAGAIN });
  let lines = "";
  const writeLines = (): void => {
    destination.write(lines);
    lines = "";
  };
  atExit.push(() => {
    endedMs = performance.now();
    if (lines !== "") writeLines();
  });
  flushAtExit(destination);
  return {
    write(line) {
      if (lines === "") setImmediate(writeLines);
      lines += line;
    },
  };
}

async function keptFiles(directory: string, name: string): Promise<DestinationStream> {
  const { default: roll } = await import("pino-roll");
  try {
    const destination = await roll({
      file: join(directory, `${name}.jsonl`),
      size: kept.size,
      limit: { count: kept.files - 1, removeOtherLogFiles: true },
      mkdir: true,
      maxLength: maxWaiting,
    });
    await once(destination, "ready");
    const lastByte = readFileSync(destination.file).at(-1);
    if (lastByte !== undefined && lastByte !== 10) destination.write("\n"); // a process was killed in the midst of a line
    flushAtExit(destination);
    return destination;
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    throw new StartError(`PARLEY_LOG_DIR: no log can be kept in ${directory} (${why}): set it to a folder that can be written`);
  }
}

/** A log that cannot be written, to a pipe that was closed or a disk that is full, is no reason to stop serving, nor not to end. */
function flushAtExit(destination: SonicBoom): void {
  destination.on("error", () => {});
  atExit.push(() => {
    try {
      destination.flushSync();
    } catch {}
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
