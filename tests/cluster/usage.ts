import type { Release } from "./kubernetes.ts";

/** What a service's pods take, by their own metrics. */
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
  readonly pods: ReadonlyMap<string, { readonly service: string; readonly memoryBytes: number; readonly cpuSeconds: number }>;
}

/** Reads /metrics of each pod, through the API server. */
export async function readUsage(release: Release): Promise<Reading> {
  const pods = (await release.listPods()).filter(({ metadata }) => metadata.labels["app.kubernetes.io/name"] !== "postgres");
  const atMs = performance.now();
  const readings = await Promise.all(
    pods.map(async ({ metadata: { name, labels } }) => {
      const text = await release.kubectl("get", "--raw", `/api/v1/namespaces/${release.namespace}/pods/${name}:9090/proxy/metrics`);
      const metric = (of: string): number => Number(new RegExp(`^${of} (\\S+)`, "m").exec(text)?.[1]);
      const service = labels["app.kubernetes.io/name"] ?? "";
      return [
        name,
        { service, memoryBytes: metric("process_resident_memory_bytes"), cpuSeconds: metric("process_cpu_seconds_total") },
      ] as const;
    }),
  );
  return { atMs, pods: new Map(readings) };
}

/** Returns what each service took between two readings, of the same pods, beside an earlier one without load. */
export function usageBetween({ idle, before, after }: { idle: Reading; before: Reading; after: Reading }): Usage[] {
  const seconds = (after.atMs - before.atMs) / 1_000;
  const mebibytesOf = ({ pods }: Reading, service: string): number =>
    Math.round(Math.max(...[...pods.values()].filter((pod) => pod.service === service).map(({ memoryBytes }) => memoryBytes)) / 2 ** 20);
  return [...Map.groupBy(after.pods, ([, { service }]) => service)].map(([service, pods]) => {
    const cpuSeconds = pods.reduce((sum, [name, pod]) => sum + pod.cpuSeconds - (before.pods.get(name)?.cpuSeconds ?? 0), 0);
    return {
      service,
      pods: pods.length,
      "MiB idle": mebibytesOf(idle, service),
      "MiB under load": mebibytesOf(after, service),
      "CPU cores": (cpuSeconds / seconds).toFixed(3),
    };
  });
}
