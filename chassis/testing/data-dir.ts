import { chmodSync, mkdtempSync } from "node:fs";

/** Makes a folder that the user of Postgres may enter when we are root. */
export function makeDataDir(): string {
  const dataDir = mkdtempSync("/var/tmp/parley-test-");
  chmodSync(dataDir, 0o755);
  return dataDir;
}
