import { commonConfig, readConfig } from "@parley/chassis/config.ts";
import { type DatabaseOptions, databaseConfig, databaseOptions } from "@parley/chassis/data/database.ts";
import { embeddedUrl } from "@parley/chassis/data/embedded-postgres.ts";
import { StartError } from "@parley/chassis/start-error.ts";
import { Client } from "pg";
import { findService } from "./find-service.ts";

/** Returns where a service's database is: by its variable, else that of the suite that runs. Throws StartError where it cannot be reached. */
export async function findServiceDatabase(serviceName: string): Promise<DatabaseOptions> {
  const { database } = await findService(serviceName);
  if (database === undefined) throw new StartError(`${serviceName} has no database`);
  const { PARLEY_DATA_DIR: dataDir } = readConfig(commonConfig, process.env);
  const url = process.env[database.variable] || embeddedUrl(dataDir, serviceName);
  const client = new Client({ connectionString: url });
  try {
    await client.connect();
  } catch (error) {
    throw new StartError(`the database of ${serviceName} cannot be reached: start the suite, or set ${database.variable}\n${error}`);
  } finally {
    await client.end().catch(() => {});
  }
  return databaseOptions("tools", url, readConfig(databaseConfig, process.env));
}
