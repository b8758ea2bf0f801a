/** Why a process cannot start, where its code is not at fault: the message is for whoever started it. */
export class StartError extends Error {
  override name = "StartError";
}

/** Ends a process that cannot start: tells whoever started it why, or throws what they cannot help. */
export function exitOnStartError(error: unknown): never {
  if (!(error instanceof StartError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}

/** Returns what to tell when a port cannot be listened on: the port, and the variable that changes it. */
export function listenError(error: unknown, port: number, variable: string): unknown {
  const text = String(error);
  if (text.includes("EADDRINUSE")) return new StartError(`port ${port} is in use: stop what uses it, or set ${variable} to another port`);
  if (text.includes("EACCES")) return new StartError(`port ${port} is not allowed for this user: set ${variable} to one above 1023`);
  if (text.includes("EADDRNOTAVAIL") || text.includes("ENOTFOUND")) return new StartError("PARLEY_HOST: this machine has no such address");
  return error;
}
