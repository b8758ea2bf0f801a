import { setTimeout as delay } from "node:timers/promises";
import type { Proof } from "./proof.ts";
import { watchRestarts } from "./restarts.ts";
import { chart, components, tags } from "./setup.ts";
import { secondsOf } from "./time.ts";
import { readUsage, type Usage, usageBetween } from "./usage.ts";

/** Until kubelets have the new contents of a ConfigMap, which take up to a minute and a half. */
const syncMs = 100_000;
const lookMs = 60_000;

/** Does what an operator does while customers call at a constant rate: no call is to fail. Returns what the services take under that load. */
export async function proveOperations({ cluster, release, show, begin }: Proof): Promise<readonly Usage[]> {
  const deployments = components.map((name) => `deployment/${release.name}-${name}`);
  const upgrade = (...more: string[]): Promise<string> => release.helm("upgrade", release.name, chart, ...cluster.values, ...more);
  const listMigrations = async (): Promise<string> => {
    const rows = await release.query<{ name: string }>("orders", "SELECT name FROM migration ORDER BY number DESC LIMIT 1");
    return rows[0]?.name ?? "";
  };
  const idle = await readUsage(release);
  const restarts = watchRestarts(release);
  const load = begin();
  const unnoticed = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    const from = load.journal.calls.length;
    const took = await secondsOf(async () => {
      await work();
      await release.settle();
    });
    const calls = load.journal.calls.slice(from);
    const failures = calls.flatMap(({ failure }) => failure ?? []);
    const p99Ms = calls.map(({ tookMs }) => tookMs).toSorted((a, b) => a - b)[Math.floor(calls.length * 0.99)] ?? 0;
    const why = failures.length > 0 ? `: ${[...new Set(failures)].slice(0, 3).join(" | ")}` : "";
    show(
      `under load: ${what}`,
      `${failures.length} of ${calls.length} calls failed, p99 ${p99Ms.toFixed(0)} ms, ${took}${why}`,
      failures.length === 0,
    );
  };
  await unnoticed("nothing", () => delay(lookMs / 2));
  await unnoticed("every Deployment is rolled", () => release.kubectl("rollout", "restart", ...deployments));
  await unnoticed("every Deployment is scaled to 2", () => release.kubectl("scale", "--replicas=2", ...deployments));
  await unnoticed("and back to 3", () => release.kubectl("scale", "--replicas=3", ...deployments));
  await unnoticed("upgrade with a new migration", () => upgrade("--set", `image.tag=${tags.second}`));
  const upgraded = await listMigrations();
  await unnoticed("rollback, on the new schema", () => release.helm("rollback", release.name, "1"));
  const rolledBack = await listMigrations();
  show(
    "the migration was made, and stays",
    `${upgraded}, after the rollback ${rolledBack}`,
    upgraded.endsWith("_add_note") && upgraded === rolledBack,
  );
  await unnoticed("keys of tokens change", async () => {
    await upgrade("--set", "auth.keys={1,2}");
    await delay(syncMs);
    await upgrade("--set", "auth.keys={2,1}");
    await release.settle();
    await upgrade("--set", "auth.keys={2}");
    await delay(syncMs);
  });
  const before = await readUsage(release);
  await unnoticed("nothing, once more", () => delay(lookMs));
  const usage = usageBetween({ idle, before, after: await readUsage(release) });
  await load.stop();
  const count = await restarts.stop();
  show("restarts in all that", String(count), count === 0);
  return usage;
}
