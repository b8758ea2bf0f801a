// Writes what a deployment must know of each service, out of services/all.ts: k8s/parley/services.json, from
// which the chart's templates work, and compose.yaml. With --check it writes nothing and fails where they are stale.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commonConfig, readConfig, variableOf } from "@parley/chassis/config.ts";
import { databaseConfig } from "@parley/chassis/data/database.ts";
import { createGateway } from "@parley/gateway/gateway.ts";
import { services } from "../services/all.ts";

const root = join(import.meta.dirname, "..");
const loaded = await Promise.all(Object.values(services).map((load) => load()));
const components = [...loaded, createGateway(Object.keys(services))];
const { PARLEY_DB_POOL: poolSize } = readConfig(databaseConfig, {});
/** For those who look into it, for what makes the databases, and for those that Postgres keeps for superusers. */
const spareConnections = 20;

const facts = {
  spareConnections,
  variables: Object.keys(commonConfig),
  services: Object.fromEntries(
    components.map(({ name, config, neighbours, database, keyVariable }) => [
      name,
      {
        ...(database && {
          database: { variable: database.variable, poolSize, otherConnections: database.otherConnections },
        }),
        ...(keyVariable && { keyVariable }),
        neighbours: Object.fromEntries(neighbours.map((neighbour) => [neighbour, variableOf(neighbour, "TARGET")])),
        variables: Object.keys(config),
      },
    ]),
  ),
};
const files = new Map([
  ["k8s/parley/services.json", `${JSON.stringify(facts, null, 2)}\n`],
  ["compose.yaml", composeFile()],
]);
for (const [file, text] of files) {
  const path = join(root, file);
  if (!process.argv.includes("--check")) writeFileSync(path, text);
  else if (readFileSync(path, "utf8") !== text) {
    process.stderr.write(`${file} is not what services/all.ts says: run npm run chart\n`);
    process.exitCode = 1;
  }
}

function composeFile(): string {
  const databases = loaded.flatMap(({ name, database }) => (database ? [{ name, ...database }] : []));
  const urlOf = (name: string): string => `postgres://${name}:\${PARLEY_PASSWORD:-parley}@postgres:5432/${name}`;
  const connections = databases.reduce((sum, { otherConnections }) => sum + poolSize + otherConnections, spareConnections);
  const blocks = components.map(({ name, neighbours, database }) => {
    const environment = [
      ...(database ? [`${database.variable}: ${urlOf(name)}`] : []),
      ...neighbours.map((neighbour) => `${variableOf(neighbour, "TARGET")}: dns:///${neighbour}:50051`),
    ];
    const isGateway = name === "gateway";
    const waits = isGateway
      ? neighbours.map((neighbour) => `${neighbour}: { condition: service_healthy }`)
      : database
        ? ["databases: { condition: service_completed_successfully }"]
        : [];
    return [
      `  ${name}:`,
      "    <<: *service",
      `    image: parley/${name}:\${PARLEY_TAG:-dev}`,
      `    build: { context: ., args: { SERVICE: ${name} } }`,
      ...(isGateway ? ['    ports: ["127.0.0.1:8080:8080"]'] : []),
      ...(environment.length > 0 ? ["    environment:", "      <<: *environment", ...environment.map((line) => `      ${line}`)] : []),
      ...(waits.length > 0 ? ["    depends_on:", ...waits.map((line) => `      ${line}`)] : []),
    ].join("\n");
  });
  return `# Made by npm run chart out of services/all.ts; not to be edited.
#
# The suite on one machine: docker compose up, then curl localhost:8080/api/hello. Images are built where
# they are missing. The databases are reached from these containers alone, with the password PARLEY_PASSWORD,
# which Postgres keeps from its first start on. Keys of tokens are made in the volume "data":
#   docker compose cp gateway:/data/keys/users.private.json . && npm run -s token -- --key users.private.json --subject alice --role customer
name: parley

x-environment: &environment
  PARLEY_LOG_LEVEL: \${PARLEY_LOG_LEVEL:-info}

x-service: &service
  restart: unless-stopped
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  mem_limit: 256m
  stop_grace_period: 20s # more than PARLEY_DRAIN_TIMEOUT
  volumes: ["data:/data"]
  environment: *environment
  healthcheck:
    test: [CMD, node, --eval, "fetch('http://127.0.0.1:9090/readyz').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
    interval: 3s
    timeout: 5s
    retries: 20

services:
  postgres:
    image: \${POSTGRES_IMAGE:-postgres:18}
    command: [postgres, -c, max_connections=${connections}]
    restart: unless-stopped
    environment:
      POSTGRES_PASSWORD: \${PARLEY_PASSWORD:-parley}
    volumes: ["postgres:/var/lib/postgresql"]

  # Makes the databases, each with a role of its own, and ends.
  databases:
    <<: *service
    image: parley/gateway:\${PARLEY_TAG:-dev}
    build: { context: ., args: { SERVICE: gateway } }
    restart: on-failure
    command: [/app/chassis/data/create-databases.ts]
    healthcheck: { disable: true }
    environment:
      PARLEY_POSTGRES_URL: postgres://postgres:\${PARLEY_PASSWORD:-parley}@postgres:5432/postgres
${databases.map(({ name, variable }) => `      ${variable}: ${urlOf(name)}`).join("\n")}
    depends_on: [postgres]

${blocks.join("\n\n")}

volumes:
  postgres:
  data:
`;
}
