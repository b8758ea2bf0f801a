/** How often a timer is due, and how often is told how late it was, in milliseconds. */
const lookMs = 50;
const tellMs = 500;

/** Tells how late the event loop is. */
export interface EventLoopWatch {
  /** Calls back twice a second with how late the loop was at least since the last time, in milliseconds. */
  onLook(callback: (leastLateMs: number) => void): void;
  stop(): void;
}

/** Starts to look at the process's event loop: as late as a timer is, all else is that is ready. */
export function watchEventLoop(): EventLoopWatch {
  const callbacks: ((leastLateMs: number) => void)[] = [];
  let [dueMs, toldMs, leastMs] = [performance.now() + lookMs, performance.now(), Number.POSITIVE_INFINITY];
  const timer = setInterval(() => {
    const nowMs = performance.now();
    leastMs = Math.min(leastMs, Math.max(nowMs - dueMs, 0));
    dueMs = nowMs + lookMs;
    if (nowMs - toldMs < tellMs) return;
    for (const callback of callbacks) callback(leastMs);
    [toldMs, leastMs] = [nowMs, Number.POSITIVE_INFINITY];
  }, lookMs).unref();
  return {
    onLook: (callback) => void callbacks.push(callback),
    stop: () => clearInterval(timer),
  };
}
