// Brings the database of one service, or of all, to the schema of the code: npm run migrate -- --service catalog
import { commonConfig, readConfig } from "@parley/chassis/config.ts";
import { startEmbeddedDatabases } from "@parley/chassis/data/embedded-databases.ts";
import { exitOnStartError } from "@parley/chassis/start-error.ts";
import { createLogger } from "@parley/chassis/telemetry/log.ts";
import { services } from "../services/all.ts";
import { parseArguments } from "./arguments.ts";
import { findService } from "./find-service.ts";

try {
  const { values } = parseArguments({ options: { service: { type: "string" } } }, "npm run migrate [-- --service catalog]");
  const common = readConfig(commonConfig, process.env);
  const { log } = await createLogger({ level: common.PARLEY_LOG_LEVEL });
  const chosen = await Promise.all((values.service === undefined ? Object.keys(services) : [values.service]).map(findService));
  const databases = await startEmbeddedDatabases(chosen, { env: process.env, dataDir: common.PARLEY_DATA_DIR, log });
  try {
    const env = { ...process.env, ...databases.env };
    for (const { name, database } of chosen) {
      const number = await database?.migrate({ env, log: log.child({ "service.name": name }) });
      process.stdout.write(number === undefined ? `${name} has no database\n` : `${name} is at migration ${number}\n`);
    }
  } finally {
    await databases.stop();
  }
} catch (error) {
  exitOnStartError(error);
}
