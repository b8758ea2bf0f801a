import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { signUserToken } from "@parley/chassis/auth/key.ts";
import { localUsersKey } from "@parley/chassis/auth/local-keys.ts";
import { embeddedUrl } from "@parley/chassis/data/embedded-postgres.ts";
import { makeDataDir } from "@parley/chassis/testing/data-dir.ts";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { InventoryService } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { Client, type QueryResultRow } from "pg";
import { services } from "../services/all.ts";

const root = join(import.meta.dirname, "..");
/** npm itself is left out: it stands between the suite and its signals. */
const manifest: { scripts: { start: string } } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** The suite, running as `npm start` runs it, on ports of its own. */
export interface Suite {
  readonly process: ChildProcess;
  readonly gatewayUrl: string;
  /** That of the first service, the greeter. */
  readonly grpcAddress: string;
  /** The gRPC port of a service. */
  portOf(serviceName: string): number;
  readonly adminUrl: string;
  readonly dataDir: string;
  /** What it has printed so far, line by line: on standard output, then on standard error. */
  readonly lines: readonly string[];
  readonly errors: readonly string[];
  /** Sends SIGTERM and resolves with the exit code. */
  stop(): Promise<number | null>;
}

/** Starts the suite, by a script of the test's own where it gives one, with data of its own unless it is given a folder, and waits until it says that it is ready. Throws with what it printed where it is not. */
export async function startSuite(options: { args?: readonly string[]; env?: NodeJS.ProcessEnv; script?: string } = {}): Promise<Suite> {
  const basePort = await findFreePorts(40);
  const givenDataDir = options.env?.["PARLEY_DATA_DIR"];
  const dataDir = givenDataDir ?? makeDataDir();
  const env = {
    ...process.env,
    PARLEY_DATA_DIR: dataDir,
    PARLEY_GATEWAY_PORT: String(basePort),
    PARLEY_GRPC_BASE_PORT: String(basePort + 1),
    PARLEY_ADMIN_BASE_PORT: String(basePort + 20),
    ...options.env,
  };
  const start = manifest.scripts.start.replace("tools/start.ts", options.script ?? "tools/start.ts");
  const command = [start, ...(options.args ?? [])].join(" ");
  // The channel stops the suite when the tests end without doing so; a terminal's Ctrl-C is for them alone.
  const child = spawn("sh", ["-c", command], { cwd: root, env, stdio: ["ignore", "pipe", "pipe", "ipc"], detached: true });
  if (child.stdout === null || child.stderr === null) throw new Error("the suite has no output");
  const lines: string[] = [];
  const errors: string[] = [];
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    if (line.startsWith("ready in ")) ready.resolve();
  });
  createInterface({ input: child.stderr }).on("line", (line) => errors.push(line));
  const exited = once(child, "exit");
  // A Postgres whose parent was killed takes a moment to end.
  if (givenDataDir === undefined)
    void exited.then(() => rmSync(dataDir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }));
  await Promise.race([
    ready.promise,
    exited.then(([code]) => {
      throw new Error(`the suite ended with ${code}:\n${[...lines, ...errors].join("\n")}`);
    }),
  ]);
  return {
    process: child,
    gatewayUrl: `http://127.0.0.1:${env.PARLEY_GATEWAY_PORT}`,
    grpcAddress: `127.0.0.1:${env.PARLEY_GRPC_BASE_PORT}`,
    portOf: (serviceName) => Number(env.PARLEY_GRPC_BASE_PORT) + Object.keys(services).indexOf(serviceName),
    adminUrl: `http://127.0.0.1:${env.PARLEY_ADMIN_BASE_PORT}`,
    dataDir,
    lines,
    errors,
    async stop() {
      child.kill("SIGTERM");
      const [code] = await exited;
      return code;
    },
  };
}

/** What is needed of a suite, wherever it runs, to order in it and to look at what became of that. */
export interface Shop {
  readonly gatewayUrl: string;
  /** Returns the options of a call that a user makes. */
  optionsFor(subject: string, role: "customer" | "staff"): Promise<{ headers: { authorization: string } }>;
  /** Runs a statement in a service's database. */
  query<Row extends QueryResultRow>(serviceName: string, statement: string): Promise<Row[]>;
}

export function shopOf(suite: Suite): Shop {
  return {
    gatewayUrl: suite.gatewayUrl,
    optionsFor: (subject, role) => optionsFor(suite, subject, role),
    query: (serviceName, statement) => query(suite.dataDir, serviceName, statement),
  };
}

/** Returns a token of the suite's own keys, good for an hour. */
export function tokenFor({ dataDir }: Suite, subject: string, role: "customer" | "staff"): Promise<string> {
  return signUserToken(localUsersKey(dataDir), { subject, roles: [role], issuer: "parley", audience: "parley", seconds: 3_600 });
}

/** Returns the options of a call that a user makes. */
export async function optionsFor(
  suite: Suite,
  subject: string,
  role: "customer" | "staff",
): Promise<{ headers: { authorization: string } }> {
  return { headers: { authorization: `Bearer ${await tokenFor(suite, subject, role)}` } };
}

/** Sets what is on hand of products, through the gateway. */
export async function setStock(shop: Pick<Shop, "gatewayUrl" | "optionsFor">, onHand: Readonly<Record<string, number>>): Promise<void> {
  const inventory = createClient(InventoryService, createConnectTransport({ baseUrl: shop.gatewayUrl }));
  const staff = await shop.optionsFor("staff", "staff");
  for (const [productId, count] of Object.entries(onHand)) await inventory.setStock({ productId, onHand: BigInt(count) }, staff);
}

/** Runs a statement in a service's database of a suite that runs. */
export async function query<Row extends QueryResultRow>(dataDir: string, serviceName: string, statement: string): Promise<Row[]> {
  const client = new Client({ connectionString: embeddedUrl(dataDir, serviceName) });
  client.on("error", () => {}); // it may be killed
  await client.connect();
  try {
    return (await client.query<Row>(statement)).rows;
  } finally {
    await client.end();
  }
}

/** Returns the process ids of the suite's Postgres, the server's own first, then those of its sessions. Throws where it does not run. */
export async function postgresPids({ dataDir }: Suite): Promise<number[]> {
  const postmaster = Number(readFileSync(join(dataDir, "postgres/data/postmaster.pid"), "utf8").split("\n")[0]);
  const { stdout } = await promisify(execFile)("ps", ["-o", "pid=", "--ppid", String(postmaster)]);
  return [postmaster, ...stdout.split(/\s+/).map(Number)].filter((pid) => pid > 1); // to 0, a signal would be for our own group
}

/** Returns the process ids of a split suite's parts, or of those whose script has this name. */
export async function partPids(suite: Suite, name = ""): Promise<number[]> {
  const { stdout } = await promisify(execFile)("ps", ["-o", "pid=,args=", "--ppid", String(suite.process.pid)]).catch(() => ({
    stdout: "",
  }));
  return [...stdout.matchAll(/^\s*(\d+) .*main\.ts$/gm)].filter(([line]) => line.includes(`${name}/main.ts`)).map(([, pid]) => Number(pid));
}
