import { mkdirSync } from "node:fs";
import { StartError } from "./start-error.ts";

/** Makes PARLEY_DATA_DIR, or a folder in it. Throws StartError where that cannot be, with the variables that would do instead. */
export function makeDataFolder(path: string, otherwise: string, options: { mode?: number } = {}): void {
  try {
    mkdirSync(path, { recursive: true, ...options });
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    throw new StartError(`PARLEY_DATA_DIR: ${path} cannot be made (${why}): set it to a folder that can be written, or set ${otherwise}`);
  }
}
