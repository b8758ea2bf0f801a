import { variableOf } from "@parley/chassis/config.ts";
import type { Component } from "@parley/chassis/service.ts";
import manifest from "../package.json" with { type: "json" };

/** Returns compose.yaml, the suite on one machine with Docker. */
export function composeFile(
  components: readonly Component[],
  { poolSize, spareConnections }: { poolSize: number; spareConnections: number },
): string {
  const databases = components.flatMap(({ name, database }) => (database ? [{ name, ...database }] : []));
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
      `    image: parley/${name}:\${PARLEY_TAG:-${manifest.version}}`,
      `    build: { context: ., args: { SERVICE: ${name} } }`,
      ...(isGateway ? ['    ports: ["127.0.0.1:8080:8080"]'] : []),
      ...(environment.length > 0 ? ["    environment:", "      <<: *environment", ...environment.map((line) => `      ${line}`)] : []),
      ...(waits.length > 0 ? ["    depends_on:", ...waits.map((line) => `      ${line}`)] : []),
    ].join("\n");
  });
  return `# Made by npm run chart out of services/all.ts; not to be edited.
#
# The suite on one machine, for a laptop: docker compose up, then curl localhost:8080/api/hello. Images are built
# where they are missing, and anew with --build. The databases are reached from these containers alone, with the password PARLEY_PASSWORD,
# which Postgres keeps from its first start on. Keys of tokens are made in the
# volume "data", which all share:
#   docker compose cp gateway:/data/keys/users.private.json /tmp/users.json && npm run -s token -- --key /tmp/users.json --subject alice --role customer
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
    interval: 5s
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
    image: parley/gateway:\${PARLEY_TAG:-${manifest.version}}
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
