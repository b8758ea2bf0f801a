// Checks that imports run one way, by the files that they resolve to:
// gen → chassis → services → gateway → tests, tools, bench, examples. A service reaches no other one.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const root = resolve(process.argv[2] ?? join(import.meta.dirname, ".."));

/** What each part may import beside itself. Parts that are not named may import everything. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  gen: [],
  chassis: ["gen"],
  services: ["gen", "chassis"],
  gateway: ["gen", "chassis", "services/all.ts"],
};

const files = globSync("**/*.{ts,js}", { cwd: root, exclude: ["**/node_modules"] });
const packages = new Map(
  globSync("**/package.json", { cwd: root, exclude: ["**/node_modules"] }).map((file) => {
    const { name }: { name: string } = JSON.parse(readFileSync(join(root, file), "utf8"));
    return [name, dirname(file)];
  }),
);

let failures = 0;
for (const file of files) {
  const from = partOf(file);
  const may = allowed[from.split("/")[0] ?? ""];
  if (may === undefined || file === "services/all.ts") continue;
  for (const specifier of importsOf(readFileSync(join(root, file), "utf8"))) {
    const to = targetOf(specifier, file);
    if (to === undefined || to === from || partOf(to) === from || may.includes(to) || may.includes(partOf(to))) continue;
    process.stderr.write(`${file}: ${specifier} reaches ${to}, but ${from} may import only ${[...may, "itself"].join(", ")}\n`);
    failures++;
  }
}
process.exit(failures === 0 ? 0 : 1);

/** The top folder of a file; of a service's, the service's folder. */
function partOf(file: string): string {
  return file
    .split("/")
    .slice(0, file.startsWith("services/") ? 2 : 1)
    .join("/");
}

function importsOf(source: string): string[] {
  return [...source.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*["']([^"'\n]+)["']/g)].map(([, specifier = ""]) => specifier);
}

/** The file, below the root, that a specifier resolves to; undefined for a package from outside. */
function targetOf(specifier: string, file: string): string | undefined {
  if (specifier.startsWith(".")) return relative(root, resolve(root, dirname(file), specifier));
  const name = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  const folder = packages.get(name);
  return folder === undefined ? undefined : join(folder, specifier.slice(name.length));
}
