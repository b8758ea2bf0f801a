import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** Starts a script of this folder as a process of its own; it is killed with the test. */
export function startChild(script: string, ...args: string[]): { child: ChildProcess; next<T>(): Promise<T> } {
  const child = fork(join(import.meta.dirname, script), args, { execArgv: [] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const messages: unknown[] = [];
  let waiting: ((message: never) => void) | undefined;
  child.on("message", (message) => {
    if (waiting === undefined) messages.push(message);
    else waiting(message as never);
    waiting = undefined;
  });
  return {
    child,
    next: () =>
      new Promise((resolve) => {
        if (messages.length > 0) resolve(messages.shift() as never);
        else waiting = resolve;
      }),
  };
}
