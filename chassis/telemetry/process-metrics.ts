import { constants, monitorEventLoopDelay, PerformanceObserver, performance } from "node:perf_hooks";
import { getHeapSpaceStatistics } from "node:v8";
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { onScrape } from "./telemetry.ts";

/** How often the event loop's delay is looked at, in milliseconds. */
const resolutionMs = 20;
const gcKinds = new Map([
  [constants.NODE_PERFORMANCE_GC_MAJOR, "major"],
  [constants.NODE_PERFORMANCE_GC_MINOR, "minor"],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, "incremental"],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, "weakcb"],
]);

/** Measures the process itself: processor, memory, event loop and garbage collection, by OpenTelemetry's names (semantic conventions for processes, Node.js and V8). */
export function collectProcessMetrics(registry: Registry): { stop(): void } {
  const registers = [registry];
  const cpu = new Counter({
    name: "process_cpu_time_seconds_total",
    help: "Processor time that the process took.",
    labelNames: ["cpu_mode"],
    registers,
  });
  const memory = new Gauge({ name: "process_memory_usage_bytes", help: "Memory that is resident.", registers });
  const uptime = new Gauge({ name: "process_uptime_seconds", help: "Time since the process started.", registers });
  const heap = new Gauge({
    name: "v8js_memory_heap_used_bytes",
    help: "Memory in use of V8's heap.",
    labelNames: ["v8js_heap_space_name"],
    registers,
  });
  const external = new Gauge({ name: "v8js_memory_external_bytes", help: "Memory outside of V8's heap that its objects hold.", registers });
  const gc = new Histogram({
    name: "v8js_gc_duration_seconds",
    help: "Time that garbage collections took.",
    labelNames: ["v8js_gc_type"],
    buckets: [0.001, 0.01, 0.1, 1, 10],
    registers,
  });
  const delays = new Gauge({
    name: "nodejs_eventloop_delay_seconds",
    help: "How late the event loop was since the metrics were read last.",
    labelNames: ["quantile"],
    registers,
  });
  const utilization = new Gauge({
    name: "nodejs_eventloop_utilization_ratio",
    help: "The share of time that the event loop was busy since the metrics were read last.",
    registers,
  });

  const loop = monitorEventLoopDelay({ resolution: resolutionMs });
  loop.enable();
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { kind }: { kind?: unknown } = Object("detail" in entry ? entry.detail : undefined);
      gc.observe({ v8js_gc_type: gcKinds.get(Number(kind)) ?? "other" }, entry.duration / 1_000);
    }
  });
  observer.observe({ entryTypes: ["gc"] });
  let lastCpu = { user: 0, system: 0 };
  let lastUse = performance.eventLoopUtilization();

  onScrape(registry, () => {
    const now = process.cpuUsage();
    for (const mode of ["user", "system"] as const) cpu.inc({ cpu_mode: mode }, (now[mode] - lastCpu[mode]) / 1e6);
    lastCpu = now;
    memory.set(process.memoryUsage.rss());
    external.set(process.memoryUsage().external);
    uptime.set(process.uptime());
    for (const { space_name: name, space_used_size: used } of getHeapSpaceStatistics()) heap.set({ v8js_heap_space_name: name }, used);
    for (const [quantile, percentile] of [
      ["0.5", 50],
      ["0.9", 90],
      ["0.99", 99],
      ["1", 100],
    ] as const)
      delays.set({ quantile }, Math.max(loop.percentile(percentile) / 1e9 - resolutionMs / 1_000, 0));
    loop.reset();
    const use = performance.eventLoopUtilization();
    utilization.set(performance.eventLoopUtilization(use, lastUse).utilization);
    lastUse = use;
  });
  return {
    stop() {
      loop.disable();
      observer.disconnect();
    },
  };
}
