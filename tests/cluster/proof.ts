import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { signUserToken } from "@parley/chassis/auth/key.ts";
import { openTransport } from "@parley/chassis/rpc/transport.ts";
import { createTestAuthority } from "@parley/chassis/testing/certificates.ts";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { createRandom } from "../random.ts";
import { type Shop, setStock } from "../suite.ts";
import { checks } from "../torture/checks.ts";
import { takeSnapshot, waitForQuiet } from "../torture/snapshot.ts";
import { openRelease, type Release } from "./kubernetes.ts";
import { type Journal, type Load, startLoad } from "./load.ts";
import { fillMemory, restartsOf } from "./memory.ts";
import { type Cluster, components, releases, tags } from "./setup.ts";
import { readUsage, type Usage, usageBetween } from "./usage.ts";

const chart = join(import.meta.dirname, "../../k8s/parley");
const manifests = join(import.meta.dirname, "../../k8s/manifests");
const putIn = Object.fromEntries(
  ["marble-run", "chess-set", "desk-lamp", "camp-stove", "chili-oil", "bird-feeder"].map((id) => [id, 100_000]),
);
const load = { readsPerSecond: 20, checkoutsPerSecond: 2, productIds: Object.keys(putIn) };
/** How long pods are deleted without grace, and how often, in milliseconds. */
const killing = { forMs: 60_000, everyMs: 5_000 };
/** How long everything may take to come to its end when all is well again. */
const patienceMs = 120_000;

/** What was shown, with its figures. */
export interface Step {
  readonly what: string;
  readonly isRight: boolean;
  readonly figures: string;
}

type Show = (what: string, isRight: boolean, figures: string) => void;

export interface Report {
  readonly steps: readonly Step[];
  readonly usage: readonly Usage[];
}

/** Goes through a release's life on a cluster. A step that does not hold is in the report; one that cannot be done throws. */
export async function proveRelease(cluster: Cluster, tell: (line: string) => void): Promise<Report> {
  const release = openRelease(releases.plain, cluster.namespace);
  const steps: Step[] = [];
  const show: Show = (what, isRight, figures) => {
    steps.push({ what, isRight, figures });
    tell(`${isRight ? "ok" : "FAIL"}: ${what}: ${figures}`);
  };
  show("images are built and brought to the cluster", true, `${cluster.buildSeconds.toFixed(0)} s`);

  await release.kubectl("apply", "--dry-run=server", "-f", join(manifests, "parley.yaml"));
  await release.kubectl("apply", "--dry-run=server", "-f", join(manifests, "greeter.yaml"));
  show("the API server takes k8s/manifests", true, "dry run");

  const installed = await secondsOf(async () => {
    await release.helm("install", release.name, chart, ...cluster.values);
    await release.settle();
  });
  show("helm install", true, `${(await release.listPods()).length} pods ready in ${installed}`);
  show("helm test places an order and reads it back", true, await secondsOf(() => release.helm("test", release.name)));

  const at = await openShop(release);
  await setStock(at, putIn);
  const journals: Journal[] = [];
  const begin = (options: Partial<Parameters<typeof startLoad>[0]> = {}): Load => {
    const running = startLoad({ at, ...load, ...options });
    journals.push(running.journal);
    return running;
  };

  await proveSpread(release, at, show);

  // What an operator does, while customers call: nobody is to notice.
  const gentle = begin();
  const noticed = async (what: string, work: () => Promise<void>): Promise<void> => {
    const from = gentle.journal.calls.length;
    const took = await secondsOf(async () => {
      await work();
      await release.settle();
    });
    const calls = gentle.journal.calls.slice(from);
    const failures = calls.flatMap(({ failure }) => failure ?? []);
    const times = calls.map(({ tookMs }) => tookMs).toSorted((a, b) => a - b);
    const p99 = times[Math.floor(times.length * 0.99)] ?? 0;
    show(
      `${what}, under load`,
      failures.length === 0,
      `${failures.length} of ${calls.length} calls failed, p99 ${p99.toFixed(0)} ms, ${took}${failures.length > 0 ? `: ${[...new Set(failures)].slice(0, 3).join(" | ")}` : ""}`,
    );
  };
  const before = await readUsage(release);
  await noticed("nothing at all", () => delay(30_000));
  const usage = usageBetween(before, await readUsage(release));
  const deployments = components.map((name) => `deployment/${release.name}-${name}`);
  await noticed("every Deployment is rolled", async () => void (await release.kubectl("rollout", "restart", ...deployments)));
  await noticed("every Deployment is scaled to 2", async () => void (await release.kubectl("scale", "--replicas=2", ...deployments)));
  await noticed("and back to 3", async () => void (await release.kubectl("scale", "--replicas=3", ...deployments)));
  const upgrade = (...more: string[]): Promise<string> => release.helm("upgrade", release.name, chart, ...cluster.values, ...more);
  await noticed("upgrade with a new migration", async () => void (await upgrade("--set", `image.tag=${tags.second}`)));
  const migrated = await release.query<{ name: string }>("orders", "SELECT name FROM migration ORDER BY number DESC LIMIT 1");
  await noticed("rollback, on the new schema", async () => void (await release.helm("rollback", release.name, "1")));
  show("the migration was made, and stays", migrated[0]?.name.endsWith("_add_note") === true, String(migrated[0]?.name));
  const sync = (): Promise<void> => delay(100_000); // until kubelets have the new ConfigMap, which take up to a minute and a half
  await noticed("keys of tokens change", async () => {
    await upgrade("--set", "auth.keys={1,2}");
    await sync();
    await upgrade("--set", "auth.keys={2,1}");
    await release.settle();
    await upgrade("--set", "auth.keys={2}");
  });
  await gentle.stop();
  show("restarts of all that", (await restarts(release)) === 0, String(await restarts(release)));

  // What nobody wants: checkouts are repeated, as clients do.
  const random = createRandom(1);
  const rough = begin({ repeats: true });
  const deleted: string[] = [];
  for (const untilMs = performance.now() + killing.forMs; performance.now() < untilMs; await delay(killing.everyMs)) {
    const pods = (await release.listPods(random.pick(components as [string, ...string[]]))).map(({ metadata }) => metadata.name);
    const name = random.pick(pods as [string, ...string[]]);
    await release.kubectl("delete", "pod", name, "--force", "--grace-period=0");
    deleted.push(name);
  }
  await release.settle();
  await rough.stop();
  showRough("pods are deleted without grace", rough.journal, `${deleted.length} pods`, show);

  const unsettled = begin({ repeats: true });
  const back = await secondsOf(async () => {
    await release.kubectl("delete", "pod", `${release.name}-postgres-0`, "--force", "--grace-period=0");
    await release.kubectl("rollout", "status", `statefulset/${release.name}-postgres`, "--timeout=120s");
    await eventually(() => at.query("orders", "SELECT 1"));
  });
  await delay(10_000);
  await release.settle();
  await unsettled.stop();
  showRough(
    "Postgres is deleted without grace",
    unsettled.journal,
    `back after ${back}, ${await restarts(release)} restarts`,
    show,
    (await restarts(release)) === 0,
  );

  for (const what of ["heap", "buffers"] as const) {
    const { reason, exitCode, seconds } = await fillMemory(release, "greeter", what);
    show(`a pod whose memory is full of ${what}`, true, `${reason}, exit code ${exitCode}, ready again after ${seconds.toFixed(0)} s`);
  }

  const isQuiet = await waitForQuiet(at, performance.now() + patienceMs);
  const told = journals.flatMap((journal) => journal.told);
  const snapshot = await takeSnapshot(at, { told, putIn, carts: new Map(journals.flatMap(({ carts }) => [...carts])) });
  const violations = Object.entries(checks).flatMap(([name, check]) => check(snapshot).map((text) => `${name}: ${text}`));
  const acknowledged = told.filter(({ orderIds }) => orderIds.length > 0).length;
  show(
    "every order ends right",
    isQuiet && violations.length === 0,
    `${acknowledged} acknowledged, ${violations.length} violations ${violations.slice(0, 3).join(" | ")}`,
  );

  await release.helm("uninstall", release.name, "--wait");
  const left = (await release.kubectl("get", "all,secrets,configmaps,pvc,networkpolicies,pdb,serviceaccounts", "-o", "name"))
    .split("\n")
    .filter((name) => name !== "" && !/^(configmap\/kube-root-ca.crt|serviceaccount\/default)$/.test(name));
  show("helm uninstall leaves the data volume alone", left.join() === "persistentvolumeclaim/data-parley-postgres-0", left.join(", "));
  await proveTls(cluster, show);
  await proveGreeter(release, show);
  return { steps, usage };
}

/** Services and gateway call each other over mutual TLS, and take no call without. */
async function proveTls(cluster: Cluster, show: Show): Promise<void> {
  const release = openRelease(releases.tls, cluster.namespace);
  const authority = await createTestAuthority();
  for (const name of components) {
    const folder = mkdtempSync(join(tmpdir(), "parley-tls-"));
    await authority.issue(folder, [`${release.name}-${name}`]);
    const files = ["tls.crt", "tls.key", "ca.crt"].map((file) => `--from-file=${join(folder, file)}`);
    await release.kubectl("create", "secret", "generic", `${release.name}-${name}-tls`, ...files);
    rmSync(folder, { recursive: true });
  }
  const chosen = ["--set", "replicas=1,tls.enabled=true"];
  await release.helm("install", release.name, chart, ...cluster.values, ...chosen);
  await release.settle();
  const tested = await secondsOf(() => release.helm("test", release.name));
  const [greeter] = await release.listPods("greeter");
  const transport = openTransport({
    target: `ipv4:${greeter?.status.podIP}:50051`,
    contracts: [GreeterService],
    interceptors: [],
    maxMessageBytes: 1024,
  });
  const refusal = await createClient(GreeterService, transport)
    .hello({ name: "Eve" }, { timeoutMs: 3_000 })
    .then(
      () => "was answered",
      (error: unknown) => `ended with ${Code[ConnectError.from(error).code]}`,
    );
  transport.close();
  show("mutual TLS", refusal !== "was answered", `helm test took ${tested}; a call without a certificate ${refusal}`);
  await release.helm("uninstall", release.name, "--wait");
}

/** The smallest manifest answers at its Service. */
async function proveGreeter(release: Release, show: Show): Promise<void> {
  const manifest = readFileSync(join(manifests, "greeter.yaml"), "utf8").replaceAll(/(image: parley\/\w+):\S+/g, `$1:${tags.first}`);
  await release.apply(manifest);
  await release.kubectl("rollout", "status", "deployment/greeter", "--timeout=120s");
  const address = await release.kubectl("get", "service", "greeter", "-o", "jsonpath={.spec.clusterIP}");
  const answer = await (await fetch(`http://${address}:5000/api/hello`)).text();
  show("greeter.yaml: curl :5000/api/hello", answer.includes("Hello"), answer);
}

async function secondsOf(work: () => Promise<unknown>): Promise<string> {
  const startedMs = performance.now();
  await work();
  return `${((performance.now() - startedMs) / 1_000).toFixed(0)} s`;
}

/** Calls spread over a service's replicas; a further one gets some when connections have reached their age. */
async function proveSpread(release: Release, at: Shop, show: Show): Promise<void> {
  const greet = (): Promise<Response> => fetch(new URL("/api/hello", at.gatewayUrl));
  const startedMs = Date.now();
  for (let call = 0; call < 300; call++) await (await greet()).text();
  const counts = await callsByPod(release, "greeter", startedMs);
  show("calls spread over the replicas", counts.size === 3 && [...counts.values()].every((count) => count > 50), shareOf(counts));

  const timer = setInterval(
    () =>
      void greet().then(
        (response) => response.text(),
        () => {},
      ),
    50,
  );
  await release.kubectl("scale", "--replicas=4", `deployment/${release.name}-greeter`);
  const scaledMs = Date.now();
  await eventually(async () => {
    const pods = await release.listPods("greeter");
    if (pods.length !== 4 || !pods.every(({ status }) => status.containerStatuses?.every(({ ready }) => ready)))
      throw new Error("not ready");
  });
  const readyMs = Date.now();
  await eventually(async () => {
    if ((await callsByPod(release, "greeter", scaledMs)).size < 4) throw new Error("no call yet");
  }, 60_000);
  const seconds = (Date.now() - readyMs) / 1_000;
  clearInterval(timer);
  show("a fourth replica gets calls", seconds <= 25, `${seconds.toFixed(0)} s after it is ready; the age of connections is 20 s here`);
  await release.kubectl("scale", "--replicas=3", `deployment/${release.name}-greeter`);
  await release.settle();
}

/** Returns how many calls each pod of a service has logged since a time. */
async function callsByPod(release: Release, service: string, sinceMs: number): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { metadata } of await release.listPods(service)) {
    const log = await release.kubectl("logs", metadata.name, `--since-time=${new Date(sinceMs).toISOString()}`);
    const calls = log.match(/"msg":"call"/g)?.length ?? 0;
    if (calls > 0) counts.set(metadata.name, calls);
  }
  return counts;
}

function shareOf(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([pod, count]) => `${pod} ${count}`).join(", ");
}

/** Reads may fail with a connection that is cut, once each; checkouts come to their end. */
function showRough(what: string, { calls, repeated }: Journal, more: string, show: Show, isRight = true): void {
  const failed = (kind: "read" | "checkout") => calls.filter((call) => call.what === kind && call.failure !== undefined);
  const reads = calls.filter((call) => call.what === "read");
  const causes = [...new Set(failed("read").map(({ failure = "" }) => failure.replace(/^[^:]*: /, "").slice(0, 60)))].slice(0, 4);
  show(
    what,
    isRight && failed("checkout").length === 0,
    `${more}; ${failed("read").length} of ${reads.length} reads failed (${causes.join(" | ")}), ${repeated} calls of checkouts repeated, ${failed("checkout").length} never answered`,
  );
}

async function restarts(release: Release): Promise<number> {
  const pods = await release.listPods();
  return pods
    .filter(({ metadata }) => metadata.labels["app.kubernetes.io/name"] !== "postgres")
    .reduce((sum, pod) => sum + restartsOf(pod), 0);
}

async function openShop(release: Release): Promise<Shop> {
  const key = JSON.parse(await release.getSecret(`${release.name}-users-key`, "1.json"));
  const address = await release.kubectl("get", "service", `${release.name}-gateway`, "-o", "jsonpath={.spec.clusterIP}");
  return {
    gatewayUrl: process.env["PARLEY_CLUSTER_GATEWAY_URL"] ?? `http://${address}`,
    query: (service, statement) => release.query(service, statement),
    async optionsFor(subject, role) {
      const token = await signUserToken(key, { subject, roles: [role], issuer: "parley", audience: "parley", seconds: 3_600 });
      return { headers: { authorization: `Bearer ${token}` } };
    },
  };
}

async function eventually<T>(work: () => Promise<T>, withinMs = 120_000): Promise<T> {
  for (const untilMs = performance.now() + withinMs; ; await delay(300)) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > untilMs) throw error;
    }
  }
}
