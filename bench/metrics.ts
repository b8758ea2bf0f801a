// Prints what a call's metrics (a count by code, a duration, a change of how many are in
// progress) cost with prom-client and with OpenTelemetry's SDK, in turns, in one process.
import { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { Counter, Gauge, Histogram, Registry } from "prom-client";

const calls = 200_000;
const rounds = 9;
const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const method = { grpc_service: "parley.greeter.v1.GreeterService", grpc_method: "Hello" };
const code = { ...method, grpc_code: "OK" };

const registers = [new Registry()];
const labelNames = Object.keys(method);
const handled = new Counter({ name: "handled", help: "-", labelNames: Object.keys(code), registers });
const seconds = new Histogram({ name: "seconds", help: "-", labelNames, buckets, registers });
const inProgress = new Gauge({ name: "in_progress", help: "-", labelNames, registers });

const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
const provider = new MeterProvider({ readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 2 ** 30 })] });
const meter = provider.getMeter("bench");
const otel = {
  handled: meter.createCounter("handled"),
  seconds: meter.createHistogram("seconds", { advice: { explicitBucketBoundaries: buckets } }),
  inProgress: meter.createUpDownCounter("in_progress"),
};

const ways: Record<string, () => void> = {
  "prom-client": () => {
    inProgress.inc(method);
    inProgress.dec(method);
    seconds.observe(method, 0.0015);
    handled.inc(code);
  },
  OpenTelemetry: () => {
    otel.inProgress.add(1, method);
    otel.inProgress.add(-1, method);
    otel.seconds.record(0.0015, method);
    otel.handled.add(1, code);
  },
};
const results = new Map(Object.keys(ways).map((name) => [name, [] as number[]]));
for (let round = 0; round < rounds; round++) {
  for (const [name, way] of Object.entries(ways)) {
    const startedMs = performance.now();
    for (let call = 0; call < calls; call++) way();
    results.get(name)?.push(((performance.now() - startedMs) * 1e6) / calls);
  }
}
for (const [name, values] of results) {
  const sorted = values.toSorted((a, b) => a - b).map(Math.round);
  console.log(`${name}: median ${sorted[Math.floor(rounds / 2)]} ns a call, ${sorted[0]} to ${sorted.at(-1)}`);
}
await provider.shutdown();
