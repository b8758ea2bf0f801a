// Starts the suite: every service and the gateway in this process or, with --split, each as a
// process of its own.
import { commonConfig, readConfig } from "@parley/chassis/config.ts";
import { localAddress } from "@parley/chassis/rpc/transports.ts";
import { serve } from "@parley/chassis/serve.ts";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { createGateway } from "@parley/gateway/gateway.ts";
import { services } from "../services/all.ts";
import { parseArguments } from "./arguments.ts";
import { splitProcesses } from "./split.ts";

const usage = "npm start [-- --split [--replicas orders=2,payments=2]]";
const names = Object.keys(services);
const loaded = await Promise.all(Object.values(services).map((load) => load()));
const components = [...loaded, createGateway(names)];
try {
  const options = { split: { type: "boolean", default: false }, replicas: { type: "string", default: "" } } as const;
  const { split, replicas } = parseArguments({ options }, usage).values;
  warnOfUnknown(components.flatMap(({ config }) => Object.keys(config)));
  if (!split && replicas !== "") throw new StartError(`replicas are processes of their own\nusage: ${usage}`);
  if (split) await splitProcesses(components, { replicas: readReplicas(replicas) }, announce);
  else {
    await serve(components, ({ ports }) => {
      announce(ports, new Map([["", readConfig(commonConfig, process.env).PARLEY_ADMIN_BASE_PORT]]));
    });
  }
} catch (error) {
  exitOnStartError(error);
}

/** Reads `orders=2,payments=2`. Throws StartError. */
function readReplicas(text: string): ReadonlyMap<string, number> {
  const entries = text === "" ? [] : text.split(",").map((entry) => /^([a-z-]+)=([1-9])$/.exec(entry));
  return new Map(
    entries.map((entry) => {
      const [, name = "", count] = entry ?? [];
      if (name in services) return [name, Number(count)];
      throw new StartError(`--replicas is a list such as orders=2,payments=2, each of 1 to 9\nusage: ${usage}`);
    }),
  );
}

/** A variable that nobody reads is likely misspelt. */
function warnOfUnknown(variables: readonly string[]): void {
  const known = new Set([...Object.keys(commonConfig), ...variables]);
  for (const name of Object.keys(process.env)) {
    if (name.startsWith("PARLEY_") && !known.has(name))
      process.stderr.write(`${name} is no variable of the suite: npm run config lists them\n`);
  }
}

/** Prints what runs where, and two commands to try. */
function announce(ports: ReadonlyMap<string, number>, adminPorts: ReadonlyMap<string, number>): void {
  const shown = localAddress(readConfig(commonConfig, process.env).PARLEY_HOST);
  const rows = [
    ...[...ports].map(([name, port]) =>
      name === "gateway" ? [name, `http://${shown}:${port}`, "REST, Connect, gRPC-Web, gRPC"] : [name, `${shown}:${port}`, "gRPC"],
    ),
    ...[...adminPorts].map(([name, port]) => [`admin${name}`, `http://${shown}:${port}`, "/livez /readyz /metrics"]),
  ];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const table = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "));
  process.stdout.write(`
${table.join("\n")}

  curl http://${shown}:${ports.get("gateway")}/api/hello
  grpcurl -plaintext -d '{"name": "Ada"}' ${shown}:${ports.get("greeter")} parley.greeter.v1.GreeterService/Hello

ready in ${Math.round(performance.now())} ms
`);
}
