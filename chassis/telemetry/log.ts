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

/** A log that nobody reads any more, as when it goes to a pipe that was closed, is no reason to stop serving. */
function standardOutput(): DestinationStream {
  return pino.destination(1).on("error", () => {});
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
    ignore: "service,method,code,duration_ms,peer,trace_id,error",
    singleLine: true,
    messageFormat: ({ service, method, code, duration_ms: durationMs, error, msg }) =>
      method === undefined || code === undefined
        ? [service, msg].filter(Boolean).join(": ")
        : `${service}: ${method} ${code} in ${durationMs} ms${error === undefined ? "" : `: ${error}`}`,
  });
}
