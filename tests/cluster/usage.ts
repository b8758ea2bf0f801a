import type { Release } from "./kubernetes.ts";

/** What a service's pods take, as the kubelet sees it: its working set is what counts against the limit. */
export interface Usage {
  readonly service: string;
  readonly pods: number;
  /** Of the largest pod, before there is a load and under it. */
  readonly "MiB idle": number;
  readonly "MiB under load": number;
  /** Of all its pods, under load. */
  readonly "CPU cores": string;
}

interface Reading {
  readonly atMs: number;
  readonly pods: ReadonlyMap<string, { readonly service: string; readonly memoryBytes: number; readonly cpuNanoseconds: number }>;
}

/** As much of the kubelet's summary as is looked at. */
interface Summary {
  readonly pods: readonly {
    readonly podRef: { readonly name: string; readonly namespace: string };
    readonly containers?: readonly {
      readonly memory?: { readonly workingSetBytes?: number };
      readonly cpu?: { readonly usageCoreNanoSeconds?: number };
    }[];
  }[];
}

/** Reads what each pod of a release takes, from the kubelets of all nodes. */
export async function readUsage(release: Release): Promise<Reading> {
  const services = new Map(
    (await release.listPods()).map(({ metadata }) => [metadata.name, metadata.labels["app.kubernetes.io/name"] ?? ""]),
  );
  const nodes = (await release.kubectl("get", "nodes", "--output=name")).trim().split("\n");
  const atMs = performance.now();
  const summaries = await Promise.all(
    nodes.map(
      async (node): Promise<Summary> =>
        JSON.parse(await release.kubectl("get", "--raw", `/api/v1/nodes/${node.replace("node/", "")}/proxy/stats/summary`)),
    ),
  );
  const pods = summaries
    .flatMap((summary) => summary.pods)
    .filter(({ podRef }) => podRef.namespace === release.namespace && services.has(podRef.name));
  const sum = (values: readonly (number | undefined)[]): number => values.reduce<number>((total, value) => total + (value ?? 0), 0);
  return {
    atMs,
    pods: new Map(
      pods.map(({ podRef, containers = [] }) => [
        podRef.name,
        {
          service: services.get(podRef.name) ?? "",
          memoryBytes: sum(containers.map(({ memory }) => memory?.workingSetBytes)),
          cpuNanoseconds: sum(containers.map(({ cpu }) => cpu?.usageCoreNanoSeconds)),
        },
      ]),
    ),
  };
}

/** Returns what each service took between two readings, of the same pods, beside an earlier one without load. */
export function usageBetween({ idle, before, after }: { idle: Reading; before: Reading; after: Reading }): Usage[] {
  const nanoseconds = (after.atMs - before.atMs) * 1e6;
  const mebibytesOf = ({ pods }: Reading, service: string): number =>
    Math.round(Math.max(...[...pods.values()].filter((pod) => pod.service === service).map(({ memoryBytes }) => memoryBytes)) / 2 ** 20);
  return [...Map.groupBy(after.pods, ([, { service }]) => service)]
    .map(([service, pods]) => {
      const used = pods.reduce((total, [name, pod]) => total + pod.cpuNanoseconds - (before.pods.get(name)?.cpuNanoseconds ?? 0), 0);
      return {
        service,
        pods: pods.length,
        "MiB idle": mebibytesOf(idle, service),
        "MiB under load": mebibytesOf(after, service),
        "CPU cores": (used / nanoseconds).toFixed(3),
      };
    })
    .toSorted((a, b) => a.service.localeCompare(b.service));
}
