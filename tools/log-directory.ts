import { join } from "node:path";

/** Returns where npm start keeps the lines of its log. */
export function logDirectory(env: NodeJS.ProcessEnv, dataDir: string): string {
  return env["PARLEY_LOG_DIR"] || join(dataDir, "logs");
}
