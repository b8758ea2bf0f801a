import { mkdir, writeFile } from "node:fs/promises";
import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { writeHeapSnapshot } from "node:v8";
import type { Logger } from "pino";

/** How long the CPU is watched, in milliseconds. */
const profileMs = 10_000;

/**
 * Creates what writes a CPU profile of ten seconds and then a heap snapshot into a folder, for the developer tools of Chromium, one after the other
 * however often it is asked. For the snapshot the process stands still, and needs as much memory again as its heap.
 */
export function createDiagnostics(folder: string, log: Logger): () => void {
  let isWriting = false;
  return () => {
    if (isWriting) return log.warn("diagnostics are being written already");
    isWriting = true;
    write(folder, log)
      .catch((error: unknown) => log.error({ err: error, folder }, "diagnostics cannot be written"))
      .finally(() => {
        isWriting = false;
      });
  };
}

async function write(folder: string, log: Logger): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 }); // a heap holds secrets
  const name = `${new Date().toISOString().replace(/[:.]/g, "-")}-${process.pid}`;
  log.info({ folder, duration_ms: profileMs }, "watching the CPU, then writing the heap");
  const session = new Session();
  session.connect();
  try {
    await session.post("Profiler.enable");
    await session.post("Profiler.start");
    await delay(profileMs);
    const { profile } = await session.post("Profiler.stop");
    await writeFile(join(folder, `${name}.cpuprofile`), JSON.stringify(profile), { mode: 0o600 });
  } finally {
    session.disconnect();
  }
  const file = writeHeapSnapshot(join(folder, `${name}.heapsnapshot`));
  log.info({ folder, file }, "diagnostics are written");
}
