/** How often a timer is due, and how often is told how late it was, in milliseconds. */
const lookMs = 50;
const tellMs = 500;

/** Tells how late the event loop is. */
export interface EventLoopWatch {
  /** Calls back twice a second with how late the loop was in the mean since the last time, in milliseconds. */
  onLook(callback: (meanLateMs: number) => void): void;
  stop(): void;
}

/** Starts to look at the process's event loop: as late as a timer is, all else is that is ready. */
export function watchEventLoop(): EventLoopWatch {
  const callbacks: ((meanLateMs: number) => void)[] = [];
  let [dueMs, toldMs, sumMs, looks] = [performance.now() + lookMs, performance.now(), 0, 0];
  const timer = setInterval(() => {
    const nowMs = performance.now();
    sumMs += Math.max(nowMs - dueMs, 0);
    looks++;
    dueMs = nowMs + lookMs;
    if (nowMs - toldMs < tellMs) return;
    for (const callback of callbacks) callback(sumMs / looks);
    [toldMs, sumMs, looks] = [nowMs, 0, 0];
  }, lookMs).unref();
  return {
    onLook: (callback) => void callbacks.push(callback),
    stop: () => clearInterval(timer),
  };
}
