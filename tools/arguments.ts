import { type ParseArgsConfig, parseArgs } from "node:util";
import { StartError } from "@parley/chassis/start-error.ts";

/** Reads the command line. Throws StartError, with the usage, where it is wrong. */
export function parseArguments<const Config extends ParseArgsConfig>(config: Config, usage: string) {
  try {
    return parseArgs(config);
  } catch (error) {
    throw new StartError(`${error instanceof Error ? error.message : error}\nusage: ${usage}`);
  }
}
