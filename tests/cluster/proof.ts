import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { signUserToken } from "@parley/chassis/auth/key.ts";
import { createTestAuthority } from "@parley/chassis/testing/certificates.ts";
import { type Shop, setStock } from "../suite.ts";
import { checks } from "../torture/checks.ts";
import { takeSnapshot, waitForQuiet } from "../torture/snapshot.ts";
import { proveKills, proveMemory, provePostgres } from "./faults.ts";
import { openRelease, type Release } from "./kubernetes.ts";
import { type Journal, type Load, type LoadOptions, startLoad } from "./load.ts";
import { proveOperations } from "./operations.ts";
import { type Cluster, chart, components, releases, tags } from "./setup.ts";
import { eventually, secondsOf } from "./time.ts";
import type { Usage } from "./usage.ts";

const manifests = join(import.meta.dirname, "../../k8s/manifests");
const putIn = Object.fromEntries(
  ["marble-run", "chess-set", "desk-lamp", "camp-stove", "chili-oil", "bird-feeder"].map((id) => [id, 100_000]),
);
export const rates = { readsPerSecond: 20, checkoutsPerSecond: 2 };
/** How long everything may take to come to its end when all is well again. */
const patienceMs = 120_000;

/** What was shown, with its figures. */
export interface Step {
  readonly what: string;
  readonly isRight: boolean;
  readonly figures: string;
}

export interface Report {
  readonly steps: readonly Step[];
  readonly usage: readonly Usage[];
}

/** What the parts of the proof work on. */
export interface Proof {
  readonly cluster: Cluster;
  readonly release: Release;
  readonly at: Shop;
  show(what: string, figures: string, isRight?: boolean): void;
  begin(options?: Partial<LoadOptions>): Load;
}

/** Goes through a release's life on a cluster. A step that does not hold is in the report; one that cannot be done throws. */
export async function proveRelease(cluster: Cluster, tell: (line: string) => void): Promise<Report> {
  const release = openRelease(releases.plain, cluster.namespace);
  const steps: Step[] = [];
  const show: Proof["show"] = (what, figures, isRight = true) => {
    steps.push({ what, isRight, figures });
    tell(`${isRight ? "ok" : "FAIL"}: ${what}: ${figures}`);
  };
  show(
    "images are built and brought to the cluster",
    `${cluster.buildSeconds.toFixed(0)} s, of their own at most ${cluster.ownMegabytes} MB`,
    cluster.ownMegabytes < 60,
  );
  await proveInstall(cluster, release, show);

  const at = await openShop(release);
  await setStock(at, putIn);
  const journals: Journal[] = [];
  const proof: Proof = {
    cluster,
    release,
    at,
    show,
    begin(options = {}) {
      const running = startLoad({ at, ...rates, productIds: Object.keys(putIn), ...options });
      journals.push(running.journal);
      return running;
    },
  };
  await proveSpread(proof);
  const usage = await proveOperations(proof);
  await proveKills(proof);
  await provePostgres(proof);
  await proveMemory(proof);
  await proveOrders(proof, journals);
  await proveUninstall(proof);
  await proveTls(cluster, show);
  await proveGreeter(release, show);
  return { steps, usage };
}

async function proveInstall(cluster: Cluster, release: Release, show: Proof["show"]): Promise<void> {
  for (const file of ["parley.yaml", "greeter.yaml"]) await release.kubectl("apply", "--dry-run=server", "-f", join(manifests, file));
  show("the API server takes k8s/manifests", "dry run");
  const took = await secondsOf(async () => {
    await release.helm("install", release.name, chart, ...cluster.values);
    await release.settle();
  });
  show("helm install", `${(await release.listPods()).length} pods ready in ${took}`);
  show("helm test places an order and reads it back", await secondsOf(() => release.helm("test", release.name)));
}

/** Calls spread over a service's replicas; a further one gets some when connections have reached their age. */
async function proveSpread({ release, at, show }: Proof): Promise<void> {
  const greet = async (): Promise<void> => void (await (await fetch(new URL("/api/hello", at.gatewayUrl))).text());
  const startedMs = Date.now();
  for (let call = 0; call < 300; call++) await greet();
  const counts = await callsByPod(release, "greeter", startedMs);
  const shares = [...counts].map(([pod, count]) => `${pod} ${count}`).join(", ");
  show("calls spread over the replicas", shares, counts.size === 3 && [...counts.values()].every((count) => count > 50));

  const timer = setInterval(() => void greet().catch(() => {}), 50);
  await release.kubectl("scale", "--replicas=4", `deployment/${release.name}-greeter`);
  const scaledMs = Date.now();
  await eventually(async () => {
    const pods = await release.listPods("greeter");
    const areReady = pods.length === 4 && pods.every(({ status }) => status.containerStatuses?.every(({ ready }) => ready));
    if (!areReady) throw new Error("the fourth replica does not get ready");
  });
  const readyMs = Date.now();
  await eventually(async () => {
    if ((await callsByPod(release, "greeter", scaledMs)).size < 4) throw new Error("the fourth replica gets no call");
  });
  const seconds = (Date.now() - readyMs) / 1_000;
  clearInterval(timer);
  show("a fourth replica gets calls", `${seconds.toFixed(0)} s after it is ready; the age of connections is 20 s here`, seconds <= 25);
  await release.kubectl("scale", "--replicas=3", `deployment/${release.name}-greeter`);
  await release.settle();
}

/** Returns how many calls each pod of a service has logged since a time. */
async function callsByPod(release: Release, service: string, sinceMs: number): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { metadata } of await release.listPods(service)) {
    const log = await release.kubectl("logs", metadata.name, `--since-time=${new Date(sinceMs).toISOString()}`);
    const calls = log.match(/"body":"call"/g)?.length ?? 0;
    if (calls > 0) counts.set(metadata.name, calls);
  }
  return counts;
}

async function proveOrders({ at, show }: Proof, journals: readonly Journal[]): Promise<void> {
  const isQuiet = await waitForQuiet(at, performance.now() + patienceMs);
  const told = journals.flatMap((journal) => journal.told);
  const snapshot = await takeSnapshot(at, { told, putIn, carts: new Map(journals.flatMap(({ carts }) => [...carts])) });
  const violations = Object.entries(checks).flatMap(([name, check]) => check(snapshot).map((text) => `${name}: ${text}`));
  const acknowledged = told.filter(({ orderIds }) => orderIds.length > 0).length;
  const figures = `${acknowledged} acknowledged, ${violations.length} violations ${violations.slice(0, 3).join(" | ")}`;
  show("every order ends right", figures, isQuiet && violations.length === 0);
}

async function proveUninstall({ release, show }: Proof): Promise<void> {
  await release.helm("uninstall", release.name, "--wait");
  const kinds = "all,secrets,configmaps,pvc,networkpolicies,pdb,serviceaccounts,jobs";
  const ofKubernetes = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
  const expected = `persistentvolumeclaim/data-${release.name}-postgres-0`;
  let left: string[] = [];
  await eventually(async () => {
    const names = await release.kubectl("get", kinds, "--output=name");
    left = names.split("\n").filter((name) => name !== "" && !ofKubernetes.includes(name));
    if (left.some((name) => name.startsWith("pod/"))) throw new Error("pods are ending");
  });
  show("helm uninstall leaves only the data volume", left.join(", "), left.join() === expected);
}

/** Services and gateway call each other over mutual TLS, and take no call without. */
async function proveTls(cluster: Cluster, show: Proof["show"]): Promise<void> {
  const release = openRelease(releases.tls, cluster.namespace);
  const authority = await createTestAuthority();
  for (const name of components) {
    const folder = mkdtempSync(join(tmpdir(), "parley-tls-"));
    await authority.issue(folder, [`${release.name}-${name}`]);
    const files = ["tls.crt", "tls.key", "ca.crt"].map((file) => `--from-file=${join(folder, file)}`);
    await release.kubectl("create", "secret", "generic", `${release.name}-${name}-tls`, ...files);
    rmSync(folder, { recursive: true });
  }
  await release.helm("install", release.name, chart, ...cluster.values, "--set", "replicas=1,tls.enabled=true");
  await release.settle();
  const took = await secondsOf(() => release.helm("test", release.name));
  // Its own health check, over HTTP/2 as gRPC without TLS has it, and over TLS without a certificate.
  const tryAs = (scheme: string): Promise<string> =>
    release.exec(
      `${release.name}-gateway`,
      `const session = require("node:http2").connect("${scheme}://${release.name}-greeter:50051", { rejectUnauthorized: false });
       const stream = session.request({ ":method": "POST", ":path": "/grpc.health.v1.Health/Check", "content-type": "application/grpc", te: "trailers" });
       for (const one of [session, stream]) one.on("error", ({ code }) => { console.log("refused, " + code); process.exit(); });
       stream.on("response", () => { console.log("answered"); process.exit(); });
       stream.on("close", () => { console.log("refused"); process.exit(); });
       stream.end(Buffer.alloc(5));`,
    );
  const answers = [(await tryAs("http")).trim(), (await tryAs("https")).trim()];
  show(
    "mutual TLS",
    `helm test took ${took}; without TLS ${answers[0]}; without a certificate ${answers[1]}`,
    answers.every((answer) => answer.startsWith("refused")),
  );
  await release.helm("uninstall", release.name, "--wait");
}

/** The smallest manifest answers at its Service. */
async function proveGreeter(release: Release, show: Proof["show"]): Promise<void> {
  const manifest = readFileSync(join(manifests, "greeter.yaml"), "utf8").replaceAll(/(image: parley\/\w+):\S+/g, `$1:${tags.first}`);
  await release.apply(manifest);
  await release.kubectl("rollout", "status", "deployment/greeter", "--timeout=120s");
  const answer = await release.exec(
    "greeter",
    `fetch("http://greeter:5000/api/hello").then((response) => response.text()).then(console.log)`,
  );
  show("greeter.yaml: curl greeter:5000/api/hello", answer.trim(), answer.includes("Hello"));
}

async function openShop(release: Release): Promise<Shop> {
  const key = JSON.parse(await release.getSecret(`${release.name}-users-trial-key`, "1.json"));
  const address = await release.kubectl("get", "service", `${release.name}-gateway`, "--output=jsonpath={.spec.clusterIP}");
  return {
    gatewayUrl: process.env["PARLEY_CLUSTER_GATEWAY_URL"] ?? `http://${address}`,
    query: (service, statement) => release.query(service, statement),
    async optionsFor(subject, role) {
      const token = await signUserToken(key, { subject, roles: [role], issuer: "parley", audience: "parley", seconds: 3_600 });
      return { headers: { authorization: `Bearer ${token}` } };
    },
  };
}
