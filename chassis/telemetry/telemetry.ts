import { setTimeout as delay } from "node:timers/promises";
import type { Tracer } from "@opentelemetry/api";
import type { Logger } from "pino";
import type { Registry } from "prom-client";

/** How a component tells what it does: its log, and metrics under its name. */
export interface Telemetry {
  /** OpenTelemetry's `service.name`, such as `orders`. */
  readonly serviceName: string;
  readonly log: Logger;
  readonly registry: Registry;
  /** What makes its spans. Undefined: nothing is traced. */
  readonly tracer: Tracer | undefined;
}

/** What is looked at only when somebody reads the metrics may take so long, in milliseconds. */
const lookMs = 1_000;
const looks = new WeakMap<Registry, (() => Promise<void> | void)[]>();

/** Calls back, before the registry's metrics are read, to set those that are not kept up to date. It does not throw. */
export function onScrape(registry: Registry, look: () => Promise<void> | void): void {
  looks.set(registry, [...(looks.get(registry) ?? []), look]);
}

/** Returns the registry's metrics, in Prometheus's text format. What does not come to an end within a second is as it was. */
export async function scrape(registry: Registry): Promise<string> {
  const enough = new AbortController();
  const all = Promise.all((looks.get(registry) ?? []).map((look) => look()));
  await Promise.race([all, delay(lookMs, undefined, { signal: enough.signal }).catch(() => {})]);
  enough.abort();
  return registry.metrics();
}

/** Creates metrics once for each registry: the components of one process share its registry, and so each metric. */
export function perRegistry<Metrics>(create: (registers: Registry[]) => Metrics): (registry: Registry) => Metrics {
  const created = new WeakMap<Registry, Metrics>();
  return (registry) => {
    const metrics = created.get(registry) ?? create([registry]);
    created.set(registry, metrics);
    return metrics;
  };
}
