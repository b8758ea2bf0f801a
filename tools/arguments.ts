import { type ParseArgsConfig, parseArgs } from "node:util";
import { StartError } from "@parley/chassis/start-error.ts";

/** Reads the command line; asked for `--help`, prints the usage and ends the process. Throws StartError, with the usage, where it is wrong. */
export function parseArguments<const Config extends ParseArgsConfig>(config: Config, usage: string) {
  if (process.argv.slice(2).some((argument) => argument === "--help" || argument === "-h")) {
    process.stdout.write(`usage: ${usage}\n`);
    process.exit(0);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    throw new StartError(`${error instanceof Error ? error.message : error}\nusage: ${usage}`);
  }
}
