import { type DestinationStream, type Logger, pino } from "pino";

/** Creates the process's logger: JSON lines on standard output, or lines for people where that is a terminal. */
export async function createLogger(level: string): Promise<Logger> {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: errorFields },
    },
    process.stdout.isTTY ? await prettyStream() : standardOutput(),
  );
}

/** Lines that are not written yet, in characters, beyond which further ones are dropped. */
const maxWaiting = 16 * 1024 * 1024;

/** A log that cannot be written, to a pipe that was closed or a disk that is full, is no reason to stop serving, nor not to end. */
function standardOutput(): DestinationStream {
  const destination = pino.destination({ dest: 1, maxLength: maxWaiting });
  // At the end of the process, sonic-boom 4 tries for ever to write what could not be written.
  return destination.on("error", () => {
    destination.flushSync = () => {};
  });
}

/** The stack, which holds its causes', without the fields of the error: they may be messages with bytes. */
function errorFields(error: Error): Record<string, unknown> {
  const { type, message, stack } = pino.stdSerializers.err(error);
  return { type, message, stack };
}

async function prettyStream(): Promise<DestinationStream> {
  const { default: pretty } = await import("pino-pretty");
  return pretty({
    translateTime: "SYS:HH:MM:ss.l",
    ignore: "service,method,code,duration_ms,peer,trace_id,error,reason,http_method,http_version,path,status,user_agent",
    singleLine: true,
    messageFormat: ({ service, method, code, http_method: verb, path, status, duration_ms: durationMs, error, msg }) => {
      if (durationMs === undefined) return [service, msg].filter(Boolean).join(": ");
      const what = verb === undefined ? `${method} ${code}` : `${verb} ${path} ${[status, code].filter(Boolean).join(" ")}`;
      return `${service}: ${what} in ${durationMs} ms${error === undefined ? "" : `: ${error}`}`;
    },
  });
}
