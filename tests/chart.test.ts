import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { services } from "../services/all.ts";
import { loadComponents } from "../tools/components.ts";

const root = join(import.meta.dirname, "..");
const chart = join(root, "k8s/parley");
const names = Object.keys(services);
const components = await loadComponents();

/** As much of a manifest as the tests look at. */
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  // biome-ignore lint/suspicious/noExplicitAny: manifests of many kinds, of which each test names the fields that it means
  readonly spec: any;
  readonly data?: Record<string, string>;
}

function parse(text: string): Manifest[] {
  return parseAllDocuments(text).flatMap((document) => document.toJS() ?? []);
}

function has(program: string): boolean {
  return spawnSync(program, ["version"]).error === undefined;
}

const schemas = process.env["KUBECONFORM_SCHEMAS"];
const missing = [
  ...["helm", "kube-score", "kubeconform"].filter((program) => !has(program)),
  ...(schemas === undefined ? ["KUBECONFORM_SCHEMAS"] : []),
];
if (missing.length > 0) process.stdout.write(`tests of the chart are skipped that need ${missing.join(", ")}\n`);

describe("the rendered chart", () => {
  const manifests = parse(readFileSync(join(root, "k8s/manifests/parley.yaml"), "utf8"));
  const find = (kind: string, name: string) => manifests.find((one) => one.kind === kind && one.metadata.name === `parley-${name}`)!;

  test("has what belongs to each service, and no Secret", () => {
    for (const kind of ["Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"]) {
      const found = manifests.filter((one) => one.kind === kind).map(({ metadata }) => metadata.name);
      expect(found.toSorted()).toEqual([...names, "gateway"].map((name) => `parley-${name}`).toSorted());
    }
    expect(manifests.filter(({ kind }) => kind === "Secret")).toEqual([]);
  });

  test("lets nobody call a service but those that list it, and it nobody but those that it lists", () => {
    const namesOf = (peers: { podSelector: { matchLabels: Record<string, string> } }[] = []): string[] =>
      peers.map(({ podSelector }) => podSelector.matchLabels["app.kubernetes.io/name"]!).toSorted();
    for (const { name, neighbours } of components) {
      const { ingress, egress, policyTypes } = find("NetworkPolicy", name).spec;
      const ruleOf = (rules: { ports: { port: unknown }[] }[], port: unknown) =>
        rules.find(({ ports }) => ports[0]?.port === port) as never;
      expect(policyTypes).toEqual(["Ingress", "Egress"]);
      const callers = components.filter((other) => other.neighbours.includes(name)).map((other) => other.name);
      if (name !== "gateway") expect(namesOf((ruleOf(ingress, "grpc") as { from: never[] }).from)).toEqual(callers.toSorted());
      const called = (ruleOf(egress, 50051) as { to: never[] } | undefined)?.to;
      expect(namesOf(called)).toEqual([...neighbours].toSorted());
    }
  });

  test("tells each service where those are that it calls, each by all addresses of its pods", () => {
    for (const { name, neighbours } of components) {
      const { env } = find("Deployment", name).spec.template.spec.containers[0];
      const targets = env.filter((one: { name: string }) => one.name.endsWith("_TARGET")).map((one: { value: string }) => one.value);
      expect(targets.toSorted()).toEqual(neighbours.map((neighbour) => `dns:///parley-${neighbour}:50051`).toSorted());
    }
    for (const name of names) expect(find("Service", name).spec.clusterIP).toBe("None");
  });

  test("runs every pod under the restricted standard, with no token of the API server, and never fewer than before while it rolls", () => {
    for (const { name } of components) {
      const { strategy, template } = find("Deployment", name).spec;
      expect(strategy.rollingUpdate.maxUnavailable).toBe(0);
      expect(template.spec).toMatchObject({
        automountServiceAccountToken: false,
        enableServiceLinks: false,
        securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
      });
      expect(template.spec.containers[0].securityContext).toMatchObject({
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ["ALL"] },
      });
    }
  });

  test("gives a pod the time that it takes to end", () => {
    for (const { name } of components) {
      const { terminationGracePeriodSeconds, containers } = find("Deployment", name).spec.template.spec;
      const secondsOf = (variable: string): number =>
        Number.parseInt(containers[0].env.find((one: { name: string }) => one.name === variable).value, 10);
      const needed = containers[0].lifecycle.preStop.sleep.seconds + secondsOf("PARLEY_DRAIN_DELAY") + secondsOf("PARLEY_DRAIN_TIMEOUT");
      expect(terminationGracePeriodSeconds).toBeGreaterThan(needed);
    }
  });
});

describe.skipIf(!has("helm"))("the chart, by helm", () => {
  const template = (...args: string[]): string =>
    execFileSync("helm", ["template", "parley", chart, "--kube-version", "1.30.0", ...usersKeys, ...args], {
      encoding: "utf8",
      stdio: "pipe",
    });
  const usersKeys = ["--set", "auth.usersJwksUrl=https://id.example/jwks"];
  /** All that is off by default. */
  const everything = [
    [
      "autoscaling.enabled=true",
      "tls.enabled=true",
      "database.caSecret=postgres-ca",
      "gateway.tlsSecret=shop-tls",
      "gateway.ingress.enabled=true",
    ],
    ["gateway.ingress.tlsSecret=shop-tls", "gateway.ingress.className=nginx", "priorityClassName=high", "podAnnotations.team=shop"],
    [
      "monitoring.podMonitor.enabled=true",
      "monitoring.rules.enabled=true",
      "monitoring.dashboards.enabled=true",
      "diagnostics.enabled=true",
    ],
    ["otlp.endpoint=http://collector.monitoring:4318", "otlp.logs=true", "otlp.headers.secret=collector"],
    [
      "services.notifications.secretEnv.PARLEY_NOTIFICATIONS_SMTP_URL.secret=smtp",
      "services.notifications.secretEnv.PARLEY_NOTIFICATIONS_SMTP_URL.key=url",
    ],
  ].flatMap((values) => ["--set", values.join(",")]);
  const trial = ["-f", join(chart, "values-trial.yaml")];

  test.each([
    [["replicas=many"], /\/replicas': got string, want integer/],
    [["drain.callSeconds=5"], /additional properties 'callSeconds' not allowed/],
    [["image.pullPolicy=Sometimes"], /must be one of 'Always', 'IfNotPresent', 'Never'/],
    [["services.ordrs.replicas=2"], /services.ordrs: there is no such service; there are carts, catalog/],
    [["env.PARLEY_LOG_LEVL=warn"], /env: there is no variable PARLEY_LOG_LEVL, or the chart sets it itself/],
    [["env.PARLEY_DRAIN_TIMEOUT=30s"], /env: there is no variable PARLEY_DRAIN_TIMEOUT, or the chart sets it itself/],
    [["auth.usersJwksUrl="], /auth.usersJwksUrl: set it to the keys of your identity provider/],
    [
      ["postgres.enabled=true,services.orders.database.secret=x"],
      /services.orders.database: with postgres.enabled the chart makes its Secret/,
    ],
    [["services.orders.env.PARLEY_GATEWAY_PORT=1"], /services.orders: it reads no variable PARLEY_GATEWAY_PORT/],
  ])("refuses %j", (values, message) => {
    expect(() => template(...values.flatMap((value) => ["--set", value]))).toThrow(message);
  });

  test("a Job that would change has another name, for it cannot", () => {
    const jobWith = (...args: string[]) => parse(template(...trial, ...args)).find(({ kind }) => kind === "Job")!;
    const before = jobWith();
    for (const change of [
      "resources.requests.memory=130Mi",
      "image.pullPolicy=Always",
      "imagePullSecrets[0].name=registry",
      "image.tag=20261126",
    ]) {
      const after = jobWith("--set", change);
      expect([change, after.metadata.name === before.metadata.name]).toEqual([
        change,
        JSON.stringify(after.spec) === JSON.stringify(before.spec),
      ]);
    }
  });

  test("keys may be named by a date, and by nothing that is no name", () => {
    expect(template(...trial, "--set", "auth.keys={20261126}")).toContain('"/etc/parley/key/20261126.json"');
    expect(() => template("--set", "auth.keys={-1}")).toThrow(/minimum/);
  });

  test("a release's name must fit into those of its parts", () => {
    for (const name of ["a".repeat(36), "1st", "shop.eu"])
      expect(() => execFileSync("helm", ["template", name, chart, "--kube-version", "1.30.0", ...usersKeys], { stdio: "pipe" })).toThrow(
        /the release's name|invalid release name/,
      );
  });

  test("a number stays as it is written", () => {
    expect(template("--set", "env.PARLEY_MAX_MESSAGE_BYTES=8388608")).toContain('{ name: PARLEY_MAX_MESSAGE_BYTES, value: "8388608" }');
  });

  test("a service may be left out of what all have", () => {
    const scaled = parse(template("--set", "autoscaling.enabled=true,services.orders.autoscaling.enabled=false"));
    const names = scaled.filter(({ kind }) => kind === "HorizontalPodAutoscaler").map(({ metadata }) => metadata.name);
    expect([names.includes("parley-catalog"), names.includes("parley-orders")]).toEqual([true, false]);
  });

  test("a service may differ from the others", () => {
    const manifests = parse(
      template(
        "--set",
        "services.orders.replicas=5,services.orders.env.PARLEY_ORDERS_WAIT=3s,services.orders.database.secret=orders-app,services.orders.database.key=uri",
      ),
    );
    const { spec } = manifests.find(({ kind, metadata }) => kind === "Deployment" && metadata.name === "parley-orders")!;
    expect(spec.replicas).toBe(5);
    expect(spec.template.spec.containers[0].env).toEqual(
      expect.arrayContaining([
        { name: "PARLEY_ORDERS_WAIT", value: "3s" },
        { name: "PARLEY_ORDERS_DATABASE_URL", valueFrom: { secretKeyRef: { name: "orders-app", key: "uri" } } },
      ]),
    );
  });

  test("for trials it makes a database and a key for each service, of which the public halves are told", () => {
    const manifests = parse(template(...trial));
    const secretOf = (name: string) =>
      manifests.find(({ kind, metadata }) => kind === "Secret" && metadata.name === `parley-${name}`)?.data ?? {};
    const decode = (text = ""): string => Buffer.from(text, "base64").toString();
    const urls = components.flatMap(({ name, database }) => (database ? [decode(secretOf(`${name}-trial-database`)["url"])] : []));
    expect(new Set(urls.map((url) => new URL(url).password)).size).toBe(urls.length);
    const keys = names.map((name) => JSON.parse(decode(secretOf(`${name}-trial-key`)["1.json"])));
    const told =
      manifests.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "parley-trial-keys")?.data?.["services.json"] ?? "";
    const publicHalves = keys.map(({ d: _, ...key }) => key);
    const byKid = (a: { kid: string }, b: { kid: string }): number => a.kid.localeCompare(b.kid);
    expect(JSON.parse(told).keys.toSorted(byKid)).toEqual(publicHalves.toSorted(byKid));
  });

  test("the trial's Postgres takes the connections of all pods, also of those that come and go", () => {
    const connectionsWith = (...args: string[]): number => {
      const postgres = parse(template(...trial, ...args)).find(({ kind }) => kind === "StatefulSet")!;
      return Number(/max_connections=(\d+)/.exec(postgres.spec.template.spec.containers[0].args.join(" "))?.[1]);
    };
    const perPod = components.reduce((sum, { database }) => sum + (database ? 5 + database.otherConnections : 0), 0);
    expect(connectionsWith()).toBe(20 + 5 * perPod);
    expect(connectionsWith("--set", "autoscaling.enabled=true,autoscaling.maxReplicas=8")).toBe(20 + 10 * perPod);
  });

  test("helm lint has nothing to say", () => {
    expect(execFileSync("helm", ["lint", "--strict", chart, ...usersKeys], { encoding: "utf8" })).toContain("0 chart(s) failed");
  });

  test.skipIf(!has("kube-score")).each([
    ["for trials", trial],
    ["with everything", everything],
  ])("kube-score finds nothing but what is explained, %s", (_, values) => {
    const { stdout } = spawnSync("kube-score", ["score", "--output-format", "ci", "-"], { input: template(...values), encoding: "utf8" });
    expect(stdout.split("\n").filter((line) => /^\[(WARNING|CRITICAL)\]/.test(line))).toEqual([]);
  });

  test.skipIf(!has("kubeconform") || schemas === undefined).each([
    ["for trials", trial],
    ["with everything", everything],
  ])("kubeconform knows every field, %s", (_, values) => {
    const { status, stdout } = spawnSync(
      "kubeconform",
      ["-strict", "-skip", "PodMonitor,PrometheusRule", "-schema-location", schemas ?? "", "-"],
      {
        input: template(...values),
        encoding: "utf8",
      },
    );
    expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
  });
});

test("the version is one, wherever it is written", () => {
  const versionIn = (file: string, pattern: RegExp): (string | undefined)[] =>
    [...readFileSync(join(root, file), "utf8").matchAll(pattern)].map(([, version]) => version);
  const { version }: { version: string } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const written = [
    ...versionIn("k8s/parley/Chart.yaml", /^(?:v|appV)ersion: (\S+)$/gm),
    ...versionIn("k8s/manifests/greeter.yaml", /image: parley\/\w+:(\S+)/g),
    ...versionIn("compose.yaml", /PARLEY_TAG:-([^}]*)/g),
  ];
  expect(written.length).toBeGreaterThan(10);
  expect(new Set(written)).toEqual(new Set([version]));
});

const hasCompose = spawnSync("docker", ["compose", "version"]).status === 0;
test.skipIf(!hasCompose)("docker compose takes compose.yaml", () => {
  const { status, stderr } = spawnSync("docker", ["compose", "--file", join(root, "compose.yaml"), "config", "--quiet"], {
    encoding: "utf8",
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
});
