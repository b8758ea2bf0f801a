/** A signal that comes this soon after another is the same one: npm passes on the Ctrl-C that the terminal has sent already. */
const sameSignalMs = 250;

/** Ends the process at a signal as if it had no handler, until onStopSignal() has one; what else it may be asked for by a signal it does not do yet. */
export function exitOnSignal(): void {
  process.on("SIGTERM", exit).on("SIGINT", exit);
  process.on("SIGUSR1", () => {}).on("SIGUSR2", () => {});
}

/** By the code that a shell tells for it: what was to be done is not done. */
function exit(_signal: string, number: number): never {
  process.exit(128 + number);
}

/** Calls `stop` at the first SIGTERM or SIGINT, or when the parent that started this process with an IPC channel is gone, and `kill` at the second. */
export function onStopSignal({ stop, kill }: { stop: (signal: string) => void; kill: () => void }): void {
  let stoppedMs: number | undefined;
  const onSignal = (signal: string): void => {
    const nowMs = performance.now();
    if (stoppedMs === undefined) {
      stoppedMs = nowMs;
      stop(signal);
    } else if (nowMs - stoppedMs > sameSignalMs) kill();
  };
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal);
  process.off("SIGTERM", exit).off("SIGINT", exit);
  if (process.send === undefined) return; // it was started without a channel
  if (process.connected) process.once("disconnect", () => onSignal("disconnect"));
  else onSignal("disconnect");
}
