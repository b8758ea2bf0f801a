import type { Release } from "./kubernetes.ts";

/** What a service's pods took over a time, by their own metrics. */
export interface Usage {
  readonly service: string;
  readonly pods: number;
  /** Of the largest pod. */
  readonly "memory MiB": number;
  /** Of all its pods. */
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
    pods.map(async ({ metadata }) => {
      const text = await release.kubectl(
        "get",
        "--raw",
        `/api/v1/namespaces/${release.namespace}/pods/${metadata.name}:9090/proxy/metrics`,
      );
      const metric = (name: string): number => Number(new RegExp(`^${name} (\\S+)`, "m").exec(text)?.[1]);
      const service = metadata.labels["app.kubernetes.io/name"] ?? "";
      return [
        metadata.name,
        { service, memoryBytes: metric("process_resident_memory_bytes"), cpuSeconds: metric("process_cpu_seconds_total") },
      ] as const;
    }),
  );
  return { atMs, pods: new Map(readings) };
}

export function usageBetween(before: Reading, after: Reading): Usage[] {
  const seconds = (after.atMs - before.atMs) / 1_000;
  return [...Map.groupBy(after.pods, ([, { service }]) => service)].map(([service, pods]) => {
    const cpuSeconds = pods.reduce((sum, [name, pod]) => sum + pod.cpuSeconds - (before.pods.get(name)?.cpuSeconds ?? 0), 0);
    return {
      service,
      pods: pods.length,
      "memory MiB": Math.round(Math.max(...pods.map(([, { memoryBytes }]) => memoryBytes)) / 2 ** 20),
      "CPU cores": (cpuSeconds / seconds).toFixed(3),
    };
  });
}
