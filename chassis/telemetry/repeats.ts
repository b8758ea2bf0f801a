import type { LogFn, Logger } from "pino";

/** For how long a line that comes again is counted instead, in milliseconds. */
const windowMs = 10_000;
/** Lines that are told apart at once; further ones are counted together. */
const most = 1_000;
/** pino's number of the level from which lines are counted. */
const warn = 40;

/** Marks a line that is never counted, because each tells of something else: those of calls. */
export const eachCounts = Symbol("each counts");

/**
 * Creates what pino calls for each line. Of warnings and errors that say the same of the same, the first is logged, and after ten
 * seconds how often it came again.
 */
export function countRepeats() {
  const seen = new WeakMap<Logger, Map<string, { repeated: number }>>();
  return function (this: Logger, args: Parameters<LogFn>, log: LogFn, level: number): void {
    const [fields, message] = args;
    if (level < warn || typeof fields !== "object" || fields === null || eachCounts in fields) return void log.apply(this, args);
    const ofLogger = seen.get(this) ?? new Map<string, { repeated: number }>();
    seen.set(this, ofLogger);
    const own = keyOf(fields, message);
    const isFull = ofLogger.size >= most && !ofLogger.has(own);
    const key = isFull ? "" : own;
    const before = ofLogger.get(key);
    if (before !== undefined) {
      before.repeated++;
      return;
    }
    const entry = { repeated: 0 };
    ofLogger.set(key, entry);
    const first: Parameters<LogFn> = isFull ? [{}, "too many different errors: further ones are counted"] : args;
    log.apply(this, first);
    setTimeout(() => {
      ofLogger.delete(key);
      if (entry.repeated > 0) log.apply(this, [{ ...(isFull ? {} : fields), repeated: entry.repeated }, first[1]]);
    }, windowMs).unref();
  };
}

/** What a line says, but for numbers, such as times, and the id under which it can be found. */
function keyOf(fields: object, message: string | undefined): string {
  const texts = Object.entries(fields).flatMap(([name, value]) => {
    if (value instanceof Error) return [value.stack ?? value.message];
    return typeof value === "string" && name !== "error_id" ? [value] : [];
  });
  return JSON.stringify([message, ...texts]);
}
