import { DatabaseError } from "pg";

/** serialization_failure and deadlock_detected (PostgreSQL, appendix A). */
const givenUpCodes: ReadonlySet<string | undefined> = new Set(["40001", "40P01"]);
/** Classes of codes that mean the connection, or its server, is gone: connection exception, operator intervention, insufficient resources. */
const lostClasses: ReadonlySet<string | undefined> = new Set(["08", "57", "53"]);
/** idle_in_transaction_session_timeout: it ended the connection of a process that was frozen. */
const idleTooLong = "25P03";
/** query_canceled: by the statement timeout, which says nothing of the connection. */
const queryCanceled = "57014";
/** Codes of the operating system, and of its resolver, where a server does not answer, or its name is not known right now. */
const unreachable = new Set([
  ...["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ENOENT", "EPIPE", "ETIMEDOUT"],
  ...["EAI_AGAIN", "ENOTFOUND"],
]);

/** Whether an error means that the database cannot be reached, or that it broke the connection. */
export function isDatabaseLost(error: unknown): boolean {
  if (error instanceof DatabaseError)
    return error.code === idleTooLong || (lostClasses.has(error.code?.slice(0, 2)) && error.code !== queryCanceled);
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? error.code : undefined;
  // pg's own errors have no code.
  return (
    unreachable.has(String(code)) ||
    /^(Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error)/.test(
      error.message,
    )
  );
}

/** Whether an error means that Postgres gave the transaction up for another one. */
export function isGivenUp(error: unknown): boolean {
  return error instanceof DatabaseError && givenUpCodes.has(error.code);
}
