import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { services } from "../../services/all.ts";
import { command } from "./kubernetes.ts";

const root = join(import.meta.dirname, "../..");
export const chart = join(root, "k8s/parley");
export const components = [...Object.keys(services), "gateway"];
/** The images' tags: the second version has one migration more. */
export const tags = { first: "cluster-test-1", second: "cluster-test-2" };
const postgresImage = "parley/postgres:cluster-test";

interface Volume {
  readonly name: string;
  readonly folder: string;
}

/** The releases that are installed. */
export const releases = { plain: "parley", tls: "parley-tls" };

/** A cluster with the images, and a namespace of the test's own. */
export interface Cluster {
  readonly namespace: string;
  /** The values with which the chart is installed. */
  readonly values: readonly string[];
  readonly buildSeconds: number;
  /** What the largest image holds beside its base. */
  readonly ownMegabytes: number;
  /** Volumes that were made by hand, on this machine, where the cluster makes none. */
  readonly volumes: readonly Volume[];
}

/** Returns what is missing to run the test; undefined: nothing. */
export async function findMissing(): Promise<string | undefined> {
  if (!process.env["PARLEY_CLUSTER_LOAD"])
    return "PARLEY_CLUSTER_LOAD is not set, the command that brings an archive of images to a cluster for tests, such as 'kind load image-archive'";
  const tries = { docker: ["version"], helm: ["version"], kubectl: ["get", "nodes"] };
  for (const [program, args] of Object.entries(tries)) {
    try {
      await command(program, args, { timeoutMs: 20_000 });
    } catch (error) {
      return `${program} ${args.join(" ")} fails: ${error instanceof Error ? error.message.split("\n").at(-1) : error}`;
    }
  }
  return undefined;
}

/** Builds the images of two versions and of Postgres, brings them to the cluster and makes a namespace. */
export async function openCluster(): Promise<Cluster> {
  const startedMs = performance.now();
  const buildArguments = (process.env["PARLEY_CLUSTER_BUILD_ARGUMENTS"] ?? "").split(" ").filter(Boolean);
  const build = (tag: string, folder: string): Promise<string> =>
    command("docker", ["build", "--quiet", ...buildArguments, "--tag", tag, folder]);
  const sizes = await command(process.execPath, [join(root, "tools/images.ts"), "--tag", tags.first, "--", "--quiet", ...buildArguments]);
  const ownMegabytes = Math.max(...[...sizes.matchAll(/^parley.* (\S+)$/gm)].map(([, size]) => Number(size)));
  await build(postgresImage, join(root, "tests/cluster/postgres"));
  for (const name of components) await command("docker", ["tag", `parley/${name}:${tags.first}`, `parley/${name}:${tags.second}`]);
  await buildSecondVersion(build);
  const folder = mkdtempSync(join(tmpdir(), "parley-images-"));
  try {
    const archive = join(folder, "images.tar");
    const images = Object.values(tags).flatMap((tag) => components.map((name) => `parley/${name}:${tag}`));
    await command("docker", ["save", ...images, postgresImage, "--output", archive]);
    const [load = "", ...loadArguments] = (process.env["PARLEY_CLUSTER_LOAD"] ?? "").split(" ");
    await command(load, [...loadArguments, archive]);
  } finally {
    rmSync(folder, { recursive: true });
  }
  const buildSeconds = (performance.now() - startedMs) / 1_000;
  const namespace = `parley-test-${Date.now().toString(36)}`;
  await command("kubectl", ["create", "namespace", namespace]);
  await command("kubectl", ["label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"]);
  const volumes = (await hasStorageClass())
    ? []
    : await Promise.all(Object.values(releases).map((release) => makeVolume(namespace, release)));
  // On a small machine, 30 pods do not get the CPU that they should have on a real one.
  const chosen = {
    "image.tag": tags.first,
    "postgres.image": postgresImage,
    "resources.requests.cpu": "10m",
    minReadySeconds: "10",
    "env.PARLEY_CONNECTION_AGE": "20s",
  };
  const values = [
    "-f",
    join(chart, "values-trial.yaml"),
    ...Object.entries(chosen).flatMap(([key, value]) => ["--set", `${key}=${value}`]),
  ];
  return { namespace, values, buildSeconds, ownMegabytes, volumes };
}

export async function closeCluster({ namespace, volumes }: Cluster): Promise<void> {
  await command("kubectl", ["delete", "namespace", namespace, "--timeout=180s"]);
  for (const { name, folder } of volumes) {
    await command("kubectl", ["delete", "persistentvolume", name, "--timeout=60s"]);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The first one's images, with a further migration of orders. */
async function buildSecondVersion(build: (tag: string, folder: string) => Promise<string>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "parley-second-"));
  try {
    const migrations = "services/orders/migrations";
    const listed = await command("docker", [
      "run",
      "--rm",
      "--network=none",
      `parley/orders:${tags.first}`,
      "--print",
      `fs.readdirSync("${migrations}").length`,
    ]);
    const file = `${String(Number(listed) + 1).padStart(4, "0")}_add_note.ts`;
    writeFileSync(
      join(folder, file),
      `import { sql } from "kysely";
export const up = (db) => sql\`ALTER TABLE customer_order ADD COLUMN note text NOT NULL DEFAULT ''\`.execute(db);\n`,
    );
    writeFileSync(join(folder, "Dockerfile"), `FROM parley/orders:${tags.first}\nCOPY ${file} /app/${migrations}/\n`);
    await build(`parley/orders:${tags.second}`, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function hasStorageClass(): Promise<boolean> {
  return (await command("kubectl", ["get", "storageclass", "-o", "jsonpath={.items[*].metadata.annotations}"])).includes(
    "is-default-class",
  );
}

async function makeVolume(namespace: string, release: string): Promise<Volume> {
  const name = `${namespace}-${release}`;
  const folder = mkdtempSync(join("/var/tmp", "parley-volume-"));
  chmodSync(folder, 0o777); // the pod's user makes its own folder there
  const volume = {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name },
    spec: {
      capacity: { storage: "8Gi" },
      accessModes: ["ReadWriteOnce"],
      persistentVolumeReclaimPolicy: "Retain",
      claimRef: { namespace, name: `data-${release}-postgres-0` },
      hostPath: { path: folder },
    },
  };
  await command("kubectl", ["apply", "-f", "-"], { input: JSON.stringify(volume) });
  return { name, folder };
}
