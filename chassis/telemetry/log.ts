import { type DestinationStream, type Logger, pino } from "pino";

/** Creates the process's logger: JSON lines on standard output, or lines for people where that is a terminal. */
export async function createLogger(level: string): Promise<Logger> {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    process.stdout.isTTY ? await prettyStream() : pino.destination(1),
  );
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
