import { setTimeout as delay } from "node:timers/promises";
import type { Pod, Release } from "./kubernetes.ts";

/** What fills the memory of a process: its heap, at whose limit V8 ends it, or buffers, at the container's limit. */
const fillers = {
  heap: "globalThis.kept = []; setInterval(() => kept.push(Array.from({ length: 1e5 }, (_, n) => ({ n }))), 10)",
  buffers: "globalThis.kept = []; setInterval(() => kept.push(Buffer.alloc(4e6, 1)), 10)",
};

/** How a container ended whose memory was filled, and how long it took until it was ready again. */
export interface Restart {
  readonly reason: string;
  readonly exitCode: number;
  readonly seconds: number;
}

/** As the image sets it, and with the inspector open in the pod, which the services' own signals do not open. */
const inspected = "NODE_OPTIONS=--max-old-space-size-percentage=60 --inspect=127.0.0.1:9229";

/** Fills the memory of a pod's process by Node's inspector, for which its deployment is rolled, and waits until it is ready again. */
export async function fillMemory(release: Release, service: string, what: keyof typeof fillers): Promise<Restart> {
  const deployment = `deployment/${release.name}-${service}`;
  await release.kubectl("set", "env", deployment, inspected);
  await release.kubectl("rollout", "status", deployment, "--timeout=180s");
  const pod = (await release.listPods(service)).find(({ metadata }) => metadata.deletionTimestamp === undefined);
  if (pod === undefined) throw new Error(`there is no pod of ${service}`);
  const before = restartsOf(pod);
  const script = `
    const find = () => fetch("http://127.0.0.1:9229/json/list").then((response) => response.json()).catch(find); // it is being opened
    find().then(([{ webSocketDebuggerUrl }]) => {
      const socket = new WebSocket(webSocketDebuggerUrl);
      socket.onopen = () => socket.send(JSON.stringify({ id: 1, method: "Runtime.evaluate", params: { expression: ${JSON.stringify(fillers[what])} } }));
      socket.onclose = () => process.exit();
    });`;
  const startedMs = performance.now();
  await release.kubectl("exec", pod.metadata.name, "--", "node", "--eval", script).catch(() => {}); // it ends with the container
  for (;;) {
    const now = (await release.listPods(service)).find(({ metadata }) => metadata.name === pod.metadata.name);
    const [container] = now?.status.containerStatuses ?? [];
    const terminated = container?.lastState.terminated;
    if (now && terminated && restartsOf(now) > before && container.ready)
      return { reason: terminated.reason, exitCode: terminated.exitCode, seconds: (performance.now() - startedMs) / 1_000 };
    if (performance.now() - startedMs > 120_000) throw new Error(`${pod.metadata.name} is not ready two minutes after its memory was full`);
    await delay(200);
  }
}

function restartsOf({ status }: Pod): number {
  return (status.containerStatuses ?? []).reduce((sum, { restartCount }) => sum + restartCount, 0);
}

/** Counts restarts of services' containers, of pods that are gone by now too, until it is stopped. */
export function watchRestarts(release: Release): { stop(): Promise<number> } {
  const seen = new Map<string, number>();
  const stopped = new AbortController();
  const look = async (): Promise<void> => {
    for (const pod of await release.listPods())
      if (pod.metadata.labels["app.kubernetes.io/name"] !== "postgres") seen.set(pod.metadata.name, restartsOf(pod));
  };
  const watching = (async () => {
    while (!stopped.signal.aborted) {
      await look();
      await delay(3_000, undefined, { signal: stopped.signal }).catch(() => {});
    }
  })();
  return {
    async stop() {
      stopped.abort();
      await watching;
      await look();
      return [...seen.values()].reduce((sum, count) => sum + count, 0);
    },
  };
}
