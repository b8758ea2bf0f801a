// Writes what a deployment must know of each service, out of services/all.ts: k8s/parley/services.json, from
// which the chart's templates work, and compose.yaml. With --check it writes nothing and fails where they are stale.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commonConfig, readConfig, variableOf } from "@parley/chassis/config.ts";
import { databaseConfig } from "@parley/chassis/data/database.ts";
import { loadComponents } from "./components.ts";
import { composeFile } from "./compose.ts";

const root = join(import.meta.dirname, "..");
const components = await loadComponents();
const { PARLEY_DB_POOL: poolSize } = readConfig(databaseConfig, {});
/** For those who look into it, for what makes the databases, and for those that Postgres keeps for superusers. */
const spareConnections = 20;

/** Variables that the templates set themselves, as other parts of the chart must agree with them. */
const ownVariables =
  /^PARLEY_(DRAIN_\w+|TLS_DIR|AUTH_\w+|(GRPC|ADMIN)_BASE_PORT|GATEWAY_(PORT|TLS_\w+)|[A-Z]+_(TARGET|KEY_FILE|DATABASE_URL))$/;
function isChosen(variable: string): boolean {
  return !ownVariables.test(variable);
}

const facts = {
  spareConnections,
  variables: Object.keys(commonConfig).filter(isChosen),
  services: Object.fromEntries(
    components.map(({ name, config, neighbours, database, keyVariable }) => [
      name,
      {
        ...(database && {
          database: { variable: database.variable, poolSize, otherConnections: database.otherConnections },
        }),
        ...(keyVariable && { keyVariable }),
        neighbours: Object.fromEntries(neighbours.map((neighbour) => [neighbour, variableOf(neighbour, "TARGET")])),
        variables: Object.keys(config).filter(isChosen),
      },
    ]),
  ),
};
const files = new Map([
  ["k8s/parley/services.json", `${JSON.stringify(facts, null, 2)}\n`],
  ["compose.yaml", composeFile(components, { poolSize, spareConnections })],
]);
for (const [file, text] of files) {
  const path = join(root, file);
  if (!process.argv.includes("--check")) writeFileSync(path, text);
  else if (readFileSync(path, "utf8") !== text) {
    process.stderr.write(`${file} is not what services/all.ts says: run npm run chart\n`);
    process.exitCode = 1;
  }
}
