import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
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
/** How long a flush waits for who reads the lines, or for a disk, in milliseconds. */
const maxFlushMs = 1_000;

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
  /** Resolves when what was logged is written; after a second, where it cannot be. */
  flush(): Promise<void>;
  /** Changes the least severe level that is logged, of all that was made from the logger too. */
  setLevel(level: string): void;
}

/**
 * Creates the process's logger: JSON lines on standard output, or lines for people where that is a terminal. Fields have
 * OpenTelemetry's names (logs data model; semantic conventions), and what is logged within a call says which. An error
 * that comes again and again is logged once in ten seconds, and counted. Throws StartError where lines cannot be kept.
 */
export async function createLogger({ level, file, further }: LogOptions): Promise<ProcessLog> {
  const ours = [
    process.stdout.isTTY ? await prettyOutput() : standardOutput(),
    ...(file === undefined ? [] : [await keptFiles(file.directory, file.name)]),
  ];
  const streams = further === undefined ? ours : [...ours, further];
  const flush = async (): Promise<void> => {
    const enough = new AbortController();
    const late = delay(maxFlushMs, undefined, { signal: enough.signal }).catch(() => {});
    await Promise.race([Promise.all(ours.map(flushed)), late]);
    enough.abort();
  };
  const [only] = streams;
  const destination =
    streams.length === 1 && only !== undefined ? only : pino.multistream(streams.map((stream) => ({ level: "trace", stream })));
  return { ...createLoggerTo(level, destination), flush };
}

/** Creates a logger whose lines go to one place. */
export function createLoggerTo(level: string, destination: DestinationStream): Omit<ProcessLog, "flush"> {
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

/** Where lines are written. */
interface Output extends DestinationStream {
  flush(callback: () => void): void;
}

let output: Output | undefined;

/** Returns standard output, of which a process has one. */
function standardOutput(): Output {
  output ??= openOutput();
  return output;
}

/** What is logged in one turn of the event loop is written at its end, in one piece. */
function openOutput(): Output {
  const destination = ignoringErrors(new sonicBoom.SonicBoom({ fd: 1, maxLength: maxWaiting }));
  let lines = "";
  const writeLines = (): void => {
    destination.write(lines);
    lines = "";
  };
  process.on("exit", () => lines !== "" && writeLines());
  return {
    write(line) {
      if (lines === "") setImmediate(writeLines);
      lines += line;
    },
    flush(callback) {
      setImmediate(() => destination.flush(callback)); // after the lines of this turn
    },
  };
}

async function keptFiles(directory: string, name: string): Promise<Output> {
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
    return ignoringErrors(destination);
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    throw new StartError(`PARLEY_LOG_DIR: no log can be kept in ${directory} (${why}): set it to a folder that can be written`);
  }
}

/** A log that cannot be written, to a pipe that was closed or a disk that is full, is no reason to stop serving. */
function ignoringErrors(destination: SonicBoom): SonicBoom {
  return destination.on("error", () => {});
}

function flushed(stream: Output): Promise<void> {
  return new Promise((resolve) => stream.flush(() => resolve()));
}

/** Lines for people, on a terminal. */
async function prettyOutput(): Promise<Output> {
  const { default: pretty } = await import("pino-pretty");
  const stream = pretty({
    sync: true,
    messageKey: "body",
    timestampKey: "timestamp",
    levelKey: "severity_text",
    translateTime: "SYS:HH:MM:ss.l",
    include: "timestamp,severity_text",
    singleLine: true,
    messageFormat: (line) => textOf(line),
  });
  return { write: (line) => void stream.write(line), flush: (callback) => void setImmediate(callback) };
}
