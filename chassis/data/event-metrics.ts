import { Gauge } from "prom-client";
import { onScrape, perRegistry, type Telemetry } from "../telemetry/telemetry.ts";

/** Shows something of a log, or of a consumer of one, whenever the metrics are read; `look` finds it. */
export function watchEvents(
  { serviceName, registry }: Telemetry,
  { name, source }: { readonly name: keyof ReturnType<typeof eventMetrics>; readonly source: string },
  look: () => Promise<number>,
): void {
  const labels = name === "head" ? { source } : { source, service_name: serviceName };
  onScrape(registry, async () => {
    eventMetrics(registry)[name].set(labels, await look().catch(() => Number.NaN));
  });
}

const eventMetrics = perRegistry((registers) => ({
  head: new Gauge({
    name: "parley_event_log_position",
    help: "Position of the last event of a service's log.",
    labelNames: ["source"],
    registers,
  }),
  position: new Gauge({
    name: "parley_event_consumer_position",
    help: "Position up to which a service has handled another's log; its lag is what lies between that and the log's own.",
    labelNames: ["source", "service_name"],
    registers,
  }),
  "set aside": new Gauge({
    name: "parley_event_consumer_set_aside",
    help: "Events of a log that a service could not handle, and those of their subjects that came after.",
    labelNames: ["source", "service_name"],
    registers,
  }),
}));
