import { createServer } from "node:net";

// A range for each test worker, below the ports that the kernel gives out by itself (32768 upward).
const range = { first: 20_000 + (Number(process.env["VITEST_POOL_ID"] ?? 0) % 10) * 1_000, size: 1_000 };
// Two runs of the tests at once begin at different places.
let next = (process.pid * 20) % range.size;

/** Returns the first of `count` ports in a row that are free on the loopback interface, and were not returned lately. */
export async function findFreePorts(count: number): Promise<number> {
  for (let tries = 0; tries < range.size / count; tries++) {
    if (next + count > range.size) next = 0;
    const base = range.first + next;
    next += count;
    const free = await Promise.all(Array.from({ length: count }, (_, index) => isFree(base + index)));
    if (free.every(Boolean)) return base;
  }
  throw new Error(`no ${count} free ports in a row from ${range.first}`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const free = await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
  });
  server.close();
  return free;
}
