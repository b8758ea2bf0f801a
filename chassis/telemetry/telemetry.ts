import type { Logger } from "pino";
import type { Registry } from "prom-client";

/** How a component tells what it does: its log, and metrics under its name. */
export interface Telemetry {
  /** OpenTelemetry's `service.name`, such as `orders`. */
  readonly serviceName: string;
  readonly log: Logger;
  readonly registry: Registry;
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
