import type { Interceptor } from "@connectrpc/connect";
import { Gauge, Histogram, type Registry } from "prom-client";
import { perRegistry, type Telemetry } from "../../telemetry/telemetry.ts";
import { methodName } from "../contract.ts";
import { statusName } from "../errors.ts";
import { watchEnd } from "../response.ts";

/** Upper bounds in seconds: from a call within the process to the longest deadline that makes sense. */
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/**
 * Measures calls that a service serves, or the gateway: how long they took, by method and status code, and how many
 * are in progress. The duration has OpenTelemetry's name and labels (semantic conventions for RPC), as Prometheus writes them.
 */
export function serverMetrics(telemetry: Telemetry): Interceptor {
  return measure(serverCalls(telemetry.registry), { service_name: telemetry.serviceName });
}

/** Measures likewise calls to a neighbour, each with all its tries. */
export function clientMetrics(telemetry: Telemetry, peerName: string): Interceptor {
  return measure(clientCalls(telemetry.registry), { service_name: telemetry.serviceName, service_peer_name: peerName });
}

function measure({ duration, active }: ReturnType<typeof serverCalls>, common: Readonly<Record<string, string>>): Interceptor {
  return (next) => (req) => {
    const labels = { ...common, rpc_method: methodName(req.method) };
    const startedMs = performance.now();
    active.inc(labels);
    return watchEnd(
      req.signal,
      () => next(req),
      (error) => {
        active.dec(labels);
        duration.observe({ ...labels, rpc_response_status_code: statusName(error) }, (performance.now() - startedMs) / 1_000);
      },
    );
  };
}

const serverCalls = perRegistry((registers) => createMetrics("server", ["service_name", "rpc_method"], registers));
const clientCalls = perRegistry((registers) => createMetrics("client", ["service_name", "service_peer_name", "rpc_method"], registers));

function createMetrics(side: "server" | "client", labelNames: string[], registers: Registry[]) {
  return {
    duration: new Histogram({
      name: `rpc_${side}_call_duration_seconds`,
      help: "Time from a call's start to its end, in seconds.",
      labelNames: [...labelNames, "rpc_response_status_code"],
      buckets,
      registers,
    }),
    active: new Gauge({ name: `parley_rpc_${side}_active_calls`, help: "Calls that have started and not ended.", labelNames, registers }),
  };
}
