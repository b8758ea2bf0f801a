import type { Interceptor } from "@connectrpc/connect";
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { statusName } from "../errors.ts";
import { watchEnd } from "../response.ts";

/** Upper bounds in seconds: from a call within the process to the longest deadline that makes sense. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

type Side = "grpc_server" | "grpc_client" | "gateway";

/** The components of one process share its registry, and so each metric. */
const created = new WeakMap<Registry, Map<Side, CallMetrics>>();

/**
 * Counts calls by method and code, measures their duration, and how many are in progress.
 *
 * The names are those of go-grpc-middleware (`grpc_server_handled_total`, …), which dashboards
 * for gRPC expect; the gateway's calls, over any protocol, are `gateway_…`.
 */
export function metrics(side: Side, registry: Registry): Interceptor {
  const sides = created.get(registry) ?? new Map<Side, CallMetrics>();
  const own = sides.get(side) ?? createMetrics(side, registry);
  created.set(registry, sides.set(side, own));
  return (next) => (req) => {
    const labels = { grpc_service: req.service.typeName, grpc_method: req.method.name };
    const startedMs = performance.now();
    own.inProgress.inc(labels);
    return watchEnd(
      req.signal,
      () => next(req),
      (error) => {
        own.inProgress.dec(labels);
        own.seconds.observe(labels, (performance.now() - startedMs) / 1_000);
        own.handled.inc({ ...labels, grpc_code: statusName(error) });
      },
    );
  };
}

type CallMetrics = ReturnType<typeof createMetrics>;

function createMetrics(side: Side, registry: Registry) {
  const labelNames = ["grpc_service", "grpc_method"] as const;
  const registers = [registry];
  return {
    handled: new Counter({
      name: `${side}_handled_total`,
      help: "Calls that ended, by gRPC status code.",
      labelNames: [...labelNames, "grpc_code"],
      registers,
    }),
    seconds: new Histogram({
      name: `${side}_handling_seconds`,
      help: "Time from a call's start to its end, in seconds.",
      labelNames,
      buckets,
      registers,
    }),
    inProgress: new Gauge({ name: `${side}_in_progress`, help: "Calls that have started and not ended.", labelNames, registers }),
  };
}
