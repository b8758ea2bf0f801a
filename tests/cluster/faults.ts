import { setTimeout as delay } from "node:timers/promises";
import { createRandom } from "@parley/chassis/testing/random.ts";
import type { Journal } from "./load.ts";
import type { Proof } from "./proof.ts";
import { fillMemory, watchRestarts } from "./restarts.ts";
import { components } from "./setup.ts";
import { eventually, secondsOf } from "./time.ts";

/** How long pods are deleted without grace, and how often, in milliseconds. */
const killing = { forMs: 60_000, everyMs: 5_000 };
/** Time at the end of a fault's load in which nothing may fail any more. */
const calmMs = 10_000;
/** How a call may fail whose connection is cut, or whose service is gone: by no answer, or a clear one. */
const cut = /fetch failed|terminated|other side closed|socket|ECONN|ERR_HTTP2|NGHTTP2|without an answer|: 503 |: 504 /;

/** Deletes pods without grace: reads may fail, once each, with a connection that is cut; checkouts are repeated, and come to their end. */
export async function proveKills({ release, show, begin }: Proof): Promise<void> {
  const seed = Math.floor(Math.random() * 1_000_000);
  const random = createRandom(seed);
  const load = begin({ repeats: true });
  let deleted = 0;
  for (const untilMs = performance.now() + killing.forMs; performance.now() < untilMs; await delay(killing.everyMs)) {
    const pods = (await release.listPods(random.pick(components as [string, ...string[]]))).map(({ metadata }) => metadata.name);
    await release.kubectl("delete", "pod", random.pick(pods as [string, ...string[]]), "--force", "--grace-period=0");
    deleted++;
  }
  await release.settle();
  await delay(calmMs);
  await load.stop();
  const { figures, isRight, failedShare } = judge(load.journal);
  show("pods are deleted without grace", `${deleted} pods, seed ${seed}; ${figures}`, isRight && failedShare < 0.02);
}

/** Restarts Postgres: services recover by themselves. */
export async function provePostgres({ release, at, show, begin }: Proof): Promise<void> {
  const restarts = watchRestarts(release);
  const load = begin({ repeats: true });
  await delay(calmMs);
  const took = await secondsOf(async () => {
    await release.kubectl("delete", "pod", `${release.name}-postgres-0`, "--force", "--grace-period=0");
    await eventually(() => at.query("orders", "SELECT 1"));
  });
  await delay(2 * calmMs);
  await release.settle();
  await load.stop();
  const count = await restarts.stop();
  const { figures, isRight } = judge(load.journal);
  show("Postgres is deleted without grace", `answers after ${took}, ${count} restarts of services; ${figures}`, isRight && count === 0);
}

/** Fills a pod's memory: its container ends and starts anew. */
export async function proveMemory({ release, show }: Proof): Promise<void> {
  for (const what of ["heap", "buffers"] as const) {
    const { reason, exitCode, seconds } = await fillMemory(release, "greeter", what);
    // V8 aborts: the first process of a container dies of that by the next signal, for it has no default for SIGABRT.
    const isRight = what === "heap" ? exitCode === 134 || exitCode === 139 : reason === "OOMKilled";
    show(`a pod's memory is full of ${what}`, `${reason}, exit code ${exitCode}, ready again after ${seconds.toFixed(0)} s`, isRight);
  }
}

function judge({ calls, repeated }: Journal): { figures: string; isRight: boolean; failedShare: number } {
  const reads = calls.filter(({ what }) => what === "read");
  const failed = reads.flatMap(({ failure }) => failure ?? []);
  const unanswered = calls.filter(({ what, failure }) => what === "checkout" && failure !== undefined);
  const endMs = Math.max(...calls.map(({ atMs, tookMs }) => atMs + tookMs));
  const late = calls.filter(({ atMs, failure }) => failure !== undefined && atMs > endMs - calmMs);
  const strange = failed.filter((failure) => !cut.test(failure));
  const causes = [...Map.groupBy(failed, (failure) => /: (\d{3}|[a-z ]+)/.exec(failure)?.[1] ?? failure)].map(
    ([cause, some]) => `${some.length} ${cause}`,
  );
  const figures = [
    `${failed.length} of ${reads.length} reads failed${causes.length > 0 ? ` (${causes.join(", ")})` : ""}`,
    `${repeated} calls of checkouts repeated, ${unanswered.length} never answered`,
    `${late.length} failures in the last ${calmMs / 1_000} s`,
    ...strange.slice(0, 3),
  ].join(", ");
  return { figures, isRight: strange.length + unanswered.length + late.length === 0, failedShare: failed.length / reads.length };
}
