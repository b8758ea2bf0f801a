// Starts the suite: every service and the gateway in this process or, with --split, each as a
// process of its own.
import { commonConfig, readConfig } from "@parley/chassis/config.ts";
import { localAddress } from "@parley/chassis/rpc/transports.ts";
import { serve } from "@parley/chassis/serve.ts";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { services } from "../services/all.ts";
import { parseArguments } from "./arguments.ts";
import { loadComponents } from "./components.ts";
import { logDirectory } from "./log-directory.ts";
import { splitProcesses } from "./split.ts";

/** A row of what is printed: a name, its port, and what it speaks. */
type Row = readonly [name: string, port: number, what: string];
const adminPages = "/livez /readyz /healthz /metrics";
const usage = "npm start [-- --split [--replicas orders=2,payments=2]]";
const names = Object.keys(services);
process.env["PARLEY_LOG_DIR"] = logDirectory(process.env, process.env["PARLEY_DATA_DIR"] || ".parley");
const components = await loadComponents();
try {
  const options = { split: { type: "boolean", default: false }, replicas: { type: "string", default: "" } } as const;
  const { split, replicas } = parseArguments({ options }, usage).values;
  warnOfUnknown(components.flatMap(({ config }) => Object.keys(config)));
  if (!split && replicas !== "") throw new StartError(`replicas are processes of their own\nusage: ${usage}`);
  if (split) {
    await splitProcesses(components, { replicas: readReplicas(replicas) }, (parts) => {
      announce(
        parts.flatMap(({ name, port, adminPort, pid }) => [
          rowOf(name, port, `, process ${pid}`),
          [`admin of ${name}`, adminPort, adminPages],
        ]),
      );
      process.stdout.write(`they belong to process ${process.pid}\n`);
    });
  } else {
    await serve(components, ({ ports }) => {
      const admin: Row = ["admin", readConfig(commonConfig, process.env).PARLEY_ADMIN_BASE_PORT, adminPages];
      announce([...[...ports].map(([name, port]) => rowOf(name, port)), admin]);
    });
  }
} catch (error) {
  exitOnStartError(error);
}

/** Reads `orders=2,payments=2`. Throws StartError. */
function readReplicas(text: string): ReadonlyMap<string, number> {
  const replicas = new Map<string, number>();
  for (const entry of text === "" ? [] : text.split(",")) {
    const [, name, count] = /^([a-z-]+)=([1-9])$/.exec(entry) ?? [];
    if (name === undefined) throw new StartError(`--replicas is a list such as orders=2,payments=2, each of 1 to 9\nusage: ${usage}`);
    if (!names.includes(name)) throw new StartError(`there is no service ${name}; there are ${names.join(", ")}\nusage: ${usage}`);
    replicas.set(name, Number(count));
  }
  return replicas;
}

/** A variable that nobody reads is likely misspelt. */
function warnOfUnknown(variables: readonly string[]): void {
  const known = new Set([...Object.keys(commonConfig), ...variables]);
  for (const name of Object.keys(process.env)) {
    if (name.startsWith("PARLEY_") && !known.has(name))
      process.stderr.write(`${name} is no variable of the suite: npm run config lists them\n`);
  }
}

function rowOf(name: string, port: number, more = ""): Row {
  return [name, port, `${name === "gateway" ? "REST, Connect, gRPC-Web, gRPC" : "gRPC"}${more}`];
}

/** Prints what runs where, and what to try. */
function announce(rows: readonly Row[]): void {
  const shown = localAddress(readConfig(commonConfig, process.env).PARLEY_HOST);
  const portOf = (wanted: string): number | undefined => rows.find(([name]) => name === wanted)?.[1];
  const gatewayUrl = `${process.env["PARLEY_GATEWAY_TLS_CERT_FILE"] ? "https" : "http"}://${shown}:${portOf("gateway")}`;
  // gRPC's own tools take no URL.
  const placeOf = (name: string, port: number, what: string): string =>
    name === "gateway" ? gatewayUrl : `${what.startsWith("gRPC") ? "" : "http://"}${shown}:${port}`;
  const cells = rows.map(([name, port, what]) => [name, placeOf(name, port, what), what]);
  const widths = [0, 1].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const table = cells.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "));
  process.stdout.write(`
${table.join("\n")}

  curl ${gatewayUrl}/api/hello
  grpcurl -plaintext -d '{"name": "Ada"}' ${shown}:${portOf("greeter")} parley.greeter.v1.GreeterService/Hello
  in a browser: ${gatewayUrl}/docs

ready in ${Math.round(performance.now())} ms
`);
}
