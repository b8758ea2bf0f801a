// Builds the image of each service and of the gateway by the Dockerfile, and prints their sizes:
//   npm run -s images -- --tag 1.2.0 --base distroless/nodejs24-debian12:nonroot --only orders,gateway -- --network=host
// What follows the second -- goes to docker build.
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import manifest from "../package.json" with { type: "json" };
import { services } from "../services/all.ts";
import { parseArguments } from "./arguments.ts";

const usage =
  "npm run -s images [-- [--tag 1.2.0] [--prefix parley/] [--base IMAGE] [--only orders,gateway] [-- ARGUMENTS OF DOCKER BUILD]]";
const root = join(import.meta.dirname, "..");
const names = [...Object.keys(services), "gateway"];

try {
  const options = {
    tag: { type: "string", default: manifest.version },
    prefix: { type: "string", default: "parley/" },
    base: { type: "string", default: "node:24-slim" },
    only: { type: "string", default: names.join(",") },
  } as const;
  const { values, positionals } = parseArguments({ options, allowPositionals: true }, usage);
  const chosen = values.only.split(",");
  const unknown = chosen.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new StartError(`there is no service ${unknown}; there are ${names.join(", ")}`);
  const revision = spawnSync("git", ["rev-parse", "HEAD"], { cwd: root, encoding: "utf8" }).stdout.trim();
  const imageOf = (name: string): string => `${values.prefix}${name}:${values.tag}`;
  for (const name of chosen) {
    const args = { SERVICE: name, BASE_IMAGE: values.base, VERSION: values.tag, REVISION: revision || "unknown" };
    const flags = Object.entries(args).flatMap(([key, value]) => ["--build-arg", `${key}=${value}`]);
    docker(["build", "--tag", imageOf(name), ...flags, ...positionals, "."], "inherit");
  }
  const rows = chosen.map(imageOf).map((image) => [image, ...sizesOf(image)]);
  const table = [["image", "MB", "MB of its own"], ...rows];
  const widths = [0, 1, 2].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  for (const [image = "", ...sizes] of table)
    process.stdout.write(
      `${[image.padEnd(widths[0] ?? 0), ...sizes.map((size, index) => size.padStart(widths[index + 1] ?? 0))].join("  ")}\n`,
    );
} catch (error) {
  exitOnStartError(error);
}

/** Returns an image's size, and that of what the Dockerfile puts on its base, in megabytes. */
function sizesOf(image: string): [string, string] {
  const history = docker(["image", "history", "--human=false", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", image], "pipe") ?? "";
  const layers = history.trim().split("\n"); // the newest first
  const own = layers.slice(
    0,
    layers.findIndex((layer) => layer.includes("ARG SERVICE")),
  );
  const sum = (some: readonly string[]): string => (some.reduce((bytes, layer) => bytes + Number.parseInt(layer, 10), 0) / 1e6).toFixed(1);
  return [sum(layers), sum(own)];
}

/** Throws StartError where docker says that something went wrong; it says what. */
function docker(args: readonly string[], stdout: "inherit" | "pipe"): string | null {
  try {
    return execFileSync("docker", args, { cwd: root, stdio: ["ignore", stdout, "inherit"], encoding: "utf8" });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      throw new StartError("there is no docker on the PATH, with which images are built");
    throw new StartError(`docker ${args[0]} failed`);
  }
}
