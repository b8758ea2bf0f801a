// Checks that imports run one way, by the files that they resolve to:
// gen → chassis → services → gateway → tests, tools, bench, examples. A service reaches no other one.
// And that a package from outside stands in the package.json beside the code: npm's hoisting hides
// what is missing there, until a service is installed alone.
import { globSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, join, relative, resolve } from "node:path";

const root = resolve(process.argv[2] ?? join(import.meta.dirname, ".."));

/** What each part may import beside itself. Parts that are not named may import everything. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  gen: [],
  chassis: ["gen"],
  services: ["gen", "chassis"],
  gateway: ["gen", "chassis", "services/all.ts"],
};

interface Manifest {
  readonly name: string;
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
}

const files = globSync("**/*.{ts,js}", { cwd: root, exclude: ["**/node_modules"] });
/** The manifest of each workspace and of the root, by its folder. */
const manifests = new Map(
  globSync("**/package.json", { cwd: root, exclude: ["**/node_modules"] }).map((file): [string, Manifest] => [
    dirname(file),
    JSON.parse(readFileSync(join(root, file), "utf8")),
  ]),
);
const packages = new Map([...manifests].map(([folder, { name }]) => [name, folder]));

let failures = 0;
for (const file of files) {
  for (const specifier of importsOf(readFileSync(join(root, file), "utf8"))) {
    const problem = directionProblem(file, specifier) ?? dependencyProblem(file, specifier);
    if (problem === undefined) continue;
    process.stderr.write(`${file}: ${specifier} ${problem}\n`);
    failures++;
  }
}
process.exit(failures === 0 ? 0 : 1);

function directionProblem(file: string, specifier: string): string | undefined {
  const from = partOf(file);
  const may = allowed[from.split("/")[0] ?? ""];
  const to = targetOf(specifier, file);
  if (may === undefined || to === undefined || file === "services/all.ts") return undefined;
  if (to === from || partOf(to) === from || may.includes(to) || may.includes(partOf(to))) return undefined;
  return `reaches ${to}, but ${from} may import only ${[...may, "itself"].join(", ")}`;
}

function dependencyProblem(file: string, specifier: string): string | undefined {
  // Tests run at the root, with all its packages.
  const isTest = file.endsWith(".test.ts") || /\/testing[./]/.test(file);
  if (isTest || specifier.startsWith(".") || isBuiltin(specifier)) return undefined;
  let folder = dirname(file);
  while (!manifests.has(folder)) folder = dirname(folder);
  const manifest = manifests.get(folder);
  const name = packageOf(specifier);
  if (folder === "." && packages.has(name)) return undefined; // npm links every workspace at the root
  const known = { ...manifest?.dependencies, ...manifest?.optionalDependencies, ...(folder === "." && manifest?.devDependencies) };
  return name in known || name === manifest?.name ? undefined : `is not among the dependencies of ${join(folder, "package.json")}`;
}

/** The top folder of a file; of a service's, the service's folder. */
function partOf(file: string): string {
  return file
    .split("/")
    .slice(0, file.startsWith("services/") ? 2 : 1)
    .join("/");
}

function importsOf(source: string): string[] {
  const statements = source.matchAll(/^\s*(?:import|export)\b(?:[^"'`;()=]*\bfrom)?\s*["']([^"'\n]+)["']/gm);
  const calls = source.matchAll(/\bimport\(\s*["']([^"'\n]+)["']/g);
  return [...statements, ...calls].map(([, specifier = ""]) => specifier);
}

/** The file, below the root, that a specifier resolves to; undefined for a package from outside. */
function targetOf(specifier: string, file: string): string | undefined {
  if (specifier.startsWith(".")) return relative(root, resolve(root, dirname(file), specifier));
  const name = packageOf(specifier);
  const folder = packages.get(name);
  return folder === undefined ? undefined : join(folder, specifier.slice(name.length));
}

function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}
