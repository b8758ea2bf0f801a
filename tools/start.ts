// Starts the suite: every service and the gateway in this process or, with --split, each as a
// process of its own.
import { commonConfig, readConfig } from "@parley/chassis/config.ts";
import { localAddress } from "@parley/chassis/rpc/transports.ts";
import { serve } from "@parley/chassis/serve.ts";
import { createGateway } from "@parley/gateway/gateway.ts";
import { services } from "../services/all.ts";
import { splitProcesses } from "./split.ts";

const names = Object.keys(services);
if (process.argv.includes("--split")) {
  await splitProcesses(names, announce);
} else {
  const loaded = await Promise.all(Object.values(services).map((load) => load()));
  await serve([...loaded, createGateway(names)], ({ ports }) => {
    announce(ports, new Map([["", readConfig(commonConfig, process.env).PARLEY_ADMIN_BASE_PORT]]));
  });
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
