import { readConfig } from "@parley/chassis/config.ts";
import { type Database, databaseConfig, databaseOptions, openDatabase } from "@parley/chassis/data/database.ts";
import { findDatabaseUrl } from "./find-database.ts";

/** Opens the database of a service of the suite that runs, or of its variable. Throws StartError where it cannot be reached. */
export async function openServiceDatabase<Schema>(serviceName: string): Promise<Database<Schema>> {
  return openDatabase(databaseOptions("tools", await findDatabaseUrl(serviceName), readConfig(databaseConfig, process.env)));
}
