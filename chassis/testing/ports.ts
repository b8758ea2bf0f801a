import { createServer } from "node:net";

/** Returns the first of `count` ports in a row that are free on the loopback interface, in a range of this test worker's own. */
export async function findFreePorts(count: number): Promise<number> {
  // Below the ports that the kernel gives out by itself (32768 upward).
  const first = 20_000 + (Number(process.env["VITEST_POOL_ID"] ?? 0) % 10) * 1_000;
  for (let base = first; base < first + 1_000; base += count) {
    const free = await Promise.all(Array.from({ length: count }, (_, index) => isFree(base + index)));
    if (free.every(Boolean)) return base;
  }
  throw new Error(`no ${count} free ports in a row from ${first}`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const free = await new Promise<boolean>((resolve) => {
    server.once("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
  });
  server.close();
  return free;
}
