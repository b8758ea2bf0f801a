import { execFile } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { variableOf } from "@parley/chassis/config.ts";

const run = promisify(execFile);
/** How long a rollout, or a command, may take. */
const patienceMs = 600_000;

/** A pod, as far as the tests look at it. */
export interface Pod {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string; readonly labels: Readonly<Record<string, string>> };
  readonly status: {
    readonly containerStatuses?: readonly {
      readonly ready: boolean;
      readonly restartCount: number;
      readonly lastState: { readonly terminated?: { readonly reason: string; readonly exitCode: number } };
    }[];
  };
}

/** A release of the chart in a namespace of a cluster. */
export interface Release {
  readonly name: string;
  readonly namespace: string;
  kubectl(...args: string[]): Promise<string>;
  helm(...args: string[]): Promise<string>;
  /** Applies manifests. */
  apply(manifest: string): Promise<string>;
  /** Its services' pods, or one service's. */
  listPods(service?: string): Promise<Pod[]>;
  getSecret(name: string, key: string): Promise<string>;
  /** Runs a script in a pod of a Deployment, and returns what it prints. */
  exec(deployment: string, script: string): Promise<string>;
  /** Resolves when every pod is ready, each Deployment has as many as it should, and none is ending. Throws after ten minutes. */
  settle(): Promise<void>;
  /** Runs a statement in a service's database. */
  query<Row>(service: string, statement: string): Promise<Row[]>;
}

/** Runs in a service's pod, for its database is reached from there, whatever the cluster's network is. */
const queryScript = `
  const { Client } = require("node:module").createRequire("/app/chassis/package.json")("pg");
  const [variable, statement] = process.argv.slice(1);
  const client = new Client({ connectionString: process.env[variable] });
  client.connect().then(() => client.query(statement)).then(({ rows }) => {
    process.stdout.write(JSON.stringify(rows), () => process.exit());
  }, (error) => { console.error(error.message); process.exit(1); });`;

/** Runs a command of the PATH to its end. Throws what it said where it fails. */
export async function command(
  file: string,
  args: readonly string[],
  options: { timeoutMs?: number; input?: string } = {},
): Promise<string> {
  const running = run(file, args, { maxBuffer: 256 * 1024 * 1024, timeout: options.timeoutMs ?? patienceMs });
  if (options.input !== undefined) running.child.stdin?.end(options.input);
  return (await running).stdout;
}

export function openRelease(name: string, namespace: string): Release {
  const instance = `app.kubernetes.io/instance=${name}`;
  const kubectl = (...args: string[]): Promise<string> => command("kubectl", ["--namespace", namespace, ...args]);
  const listPods = async (service?: string): Promise<Pod[]> => {
    const selector = `${instance},app.kubernetes.io/name${service === undefined ? " notin (databases,test)" : `=${service}`}`;
    const { items }: { items: Pod[] } = JSON.parse(await kubectl("get", "pods", "-l", selector, "-o", "json"));
    return items;
  };
  const getSecret = async (secret: string, key: string): Promise<string> => {
    const { data }: { data: Record<string, string> } = JSON.parse(await kubectl("get", "secret", secret, "-o", "json"));
    return Buffer.from(data[key] ?? "", "base64").toString();
  };
  return {
    name,
    namespace,
    kubectl,
    helm: (...args) => command("helm", ["--namespace", namespace, ...args]),
    apply: (manifest) => command("kubectl", ["--namespace", namespace, "apply", "-f", "-"], { input: manifest }),
    listPods,
    getSecret,
    exec: (deployment, script) => kubectl("exec", `deployment/${deployment}`, "--", "node", "--eval", script),
    async settle() {
      const untilMs = performance.now() + patienceMs;
      for (;;) {
        const { items }: { items: { spec: { replicas: number }; status: Record<string, number>; metadata: { generation: number } }[] } =
          JSON.parse(await kubectl("get", "deployments", "-l", instance, "-o", "json"));
        const pods = await listPods();
        const areAll = items.every(({ spec: { replicas }, status, metadata }) =>
          [status["replicas"], status["updatedReplicas"], status["availableReplicas"]].every(
            (count) => (count ?? 0) === replicas && status["observedGeneration"] === metadata.generation,
          ),
        );
        const notReady = pods.filter(
          ({ metadata, status }) => metadata.deletionTimestamp || !status.containerStatuses?.every(({ ready }) => ready),
        );
        if (areAll && notReady.length === 0) return;
        if (performance.now() > untilMs)
          throw new Error(`not settled: ${notReady.map(({ metadata }) => metadata.name).join(", ") || "replicas are missing"}`);
        await delay(500);
      }
    },
    async query(service, statement) {
      const variable = variableOf(service, "DATABASE_URL");
      return JSON.parse(await kubectl("exec", `deployment/${name}-${service}`, "--", "node", "--eval", queryScript, variable, statement));
    },
  };
}
