// Runs the outside judge of the Connect and gRPC protocols against our servers and our client. It comes,
// and its contract with it, as a Go module; where there is no Go, this says so and does nothing.
//
//   npm run conformance                the gateway's HTTP server, the services' gRPC server, their transport
//   npm run conformance -- client      one of gateway, grpc and client; further arguments are the runner's
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";

const version = "v1.0.7";
const here = import.meta.dirname;
const root = join(here, "../..");
const bin = join(root, ".parley/conformance");
const runner = join(bin, "connectconformance");
const node = process.execPath;

const subjects = {
  gateway: { title: "the gateway's HTTP server", mode: "server", features: "gateway.yaml", command: ["server.ts", "gateway"] },
  grpc: { title: "the gRPC server of services", mode: "server", features: "grpc.yaml", command: ["server.ts", "grpc"] },
  client: { title: "the transport of services", mode: "client", features: "grpc.yaml", command: ["client.ts"] },
};

if (spawnSync("go", ["version"]).status !== 0) {
  process.stdout.write("conformance is not run: there is no go here (Debian: apt-get install golang)\n");
  process.exit(0);
}
prepare();
const [chosen, ...runnerArguments] = process.argv.slice(2);
let failed = false;
for (const [name, { title, mode, features, command }] of Object.entries(subjects)) {
  if (chosen !== undefined && chosen !== name) continue;
  process.stdout.write(`\n${title}\n`);
  const [program = "", ...rest] = command;
  const known = ["failing", "flaky"].flatMap((kind) => {
    const file = join(here, `${name}-known-${kind}.txt`);
    return existsSync(file) ? [`--known-${kind}`, `@${file}`] : [];
  });
  const { status } = spawnSync(
    runner,
    ["--mode", mode, "--conf", join(here, features), ...known, ...runnerArguments, "--", node, join(here, program), ...rest],
    { stdio: "inherit", timeout: 600_000 },
  );
  if (status !== 0) failed = true;
}
process.exit(failed ? 1 : 0);

/** Fetches the runner, makes the stubs of its contract, and checks the types of what uses them. */
function prepare(): void {
  mkdirSync(bin, { recursive: true });
  run("go", ["install", `connectrpc.com/conformance/cmd/connectconformance@${version}`], { GOBIN: bin });
  const module: { Dir: string } = JSON.parse(run("go", ["mod", "download", "-json", `connectrpc.com/conformance@${version}`]));
  const generated = join(here, "gen");
  rmSync(generated, { recursive: true, force: true });
  const plugin = { local: join(root, "node_modules/.bin/protoc-gen-es"), out: generated, opt: ["target=js+dts", "import_extension=js"] };
  run("buf", ["generate", join(module.Dir, "proto"), "--template", JSON.stringify({ version: "v2", plugins: [plugin] })]);
  run("tsc", ["--project", here]);
}

/** Returns what a command prints. Where it fails, so does this process, with what it printed. */
function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root, env: { ...process.env, ...env }, encoding: "utf8" });
  if (status === 0) return stdout;
  process.stderr.write(`${command} ${args.join(" ")} failed: ${error?.message ?? ""}\n${stdout}${stderr}`);
  process.exit(1);
}
