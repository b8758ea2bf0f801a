// Renders the chart for those who use kubectl alone, as k8s/manifests/parley.yaml: it names Secrets that must be
// there, and contains none. With --check it writes nothing and fails where that is not what the chart says:
// by what it was made from, and where there is helm by what helm makes.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";

const root = join(import.meta.dirname, "..");
const chart = join(root, "k8s/parley");
const file = join(root, "k8s/manifests/parley.yaml");

/** Of the ConfigMap, into which whoever uses kubectl alone puts the keys of users. */
const usersKeys = "file:///etc/parley/keys/users.json";

try {
  const made = render();
  const isCheck = process.argv.includes("--check");
  if (!isCheck && made === undefined) throw new StartError("there is no helm on the PATH, which renders the chart");
  if (!isCheck) writeFileSync(file, made ?? "");
  else {
    const kept = readFileSync(file, "utf8");
    const isFresh = made === undefined ? kept.startsWith(header()) : kept === made;
    if (!isFresh) throw new StartError("k8s/manifests/parley.yaml is not what the chart says: run npm run manifests, which needs helm");
  }
} catch (error) {
  exitOnStartError(error);
}

function header(): string {
  const sources = globSync("**/*", { cwd: chart, withFileTypes: true, exclude: ["values-*.yaml"] }).filter((entry) => entry.isFile());
  const digest = createHash("sha256");
  for (const path of sources.map((entry) => join(entry.parentPath, entry.name)).toSorted()) digest.update(readFileSync(path));
  return `# Made by npm run manifests from k8s/parley (sha256 ${digest.digest("hex")}); not to be edited.
# kubectl apply -n NAMESPACE -f k8s/manifests/parley.yaml; ../README.md says which Secrets must be there before.
`;
}

/** Undefined: there is no helm. */
function render(): string | undefined {
  try {
    const args = ["template", "parley", chart, "--kube-version", "1.30.0", "--skip-tests", "--set", `auth.usersJwksUrl=${usersKeys}`];
    return header() + execFileSync("helm", args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new StartError("helm cannot render the chart");
  }
}
