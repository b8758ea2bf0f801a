import { dashboard, labelVariable, lines, noStreams, quantileOf, window } from "./panels.ts";

const mine = 'service_name="$service"';
const [served, called] = ["rpc_server_call_duration_seconds", "rpc_client_call_duration_seconds"];

/** One service in depth: its methods, its calls to others, what protects it, its process. */
export const service = dashboard("service", "Parley: one service")
  .withVariable(labelVariable("service", `${served}_count`, "service_name"))
  .withPanel(
    lines("Calls by method", "reqps", { expr: `sum by (rpc_method) (rate(${served}_count{${mine}}${window}))`, legend: "{{rpc_method}}" }),
  )
  .withPanel(
    lines("Calls by what became of them", "reqps", {
      expr: `sum by (rpc_response_status_code) (rate(${served}_count{${mine}}${window}))`,
      legend: "{{rpc_response_status_code}}",
    }),
  )
  .withPanel(lines("Duration by method, 50 %", "s", quantileOf(0.5, served, `${mine},${noStreams}`, "rpc_method", "{{rpc_method}}")))
  .withPanel(lines("Duration by method, 99 %", "s", quantileOf(0.99, served, `${mine},${noStreams}`, "rpc_method", "{{rpc_method}}")))
  .withPanel(
    lines("Calls in progress", "short", {
      expr: `sum by (rpc_method) (parley_rpc_server_active_calls{${mine}})`,
      legend: "{{rpc_method}}",
    }),
  )
  .withPanel(
    lines(
      "Limit of calls in progress, and calls refused a second",
      "short",
      { expr: `min(parley_rpc_server_calls_limit{${mine}})`, legend: "limit" },
      { expr: `sum(rate(parley_rpc_server_shed_calls_total{${mine}}${window})) or vector(0)`, legend: "refused" },
    ),
  )
  .withPanel(
    lines("Its calls to others", "reqps", {
      expr: `sum by (rpc_method) (rate(${called}_count{${mine}}${window})) or sum by (rpc_method) (rate(${served}_count{${mine}}${window})) * 0`,
      legend: "{{rpc_method}}",
    }),
  )
  .withPanel(
    lines("Their duration, 99 %", "s", {
      expr: `histogram_quantile(0.99, sum by (le, rpc_method) (rate(${called}_bucket{${mine},${noStreams}}${window}))) or vector(0)`,
      legend: "{{rpc_method}}",
    }),
  )
  .withPanel(
    lines(
      "Further tries, and tries withheld",
      "reqps",
      { expr: `sum by (kind) (rate(parley_rpc_client_retries_total{${mine}}${window})) or vector(0)`, legend: "{{kind}}" },
      { expr: `sum(rate(parley_rpc_client_retries_withheld_total{${mine}}${window})) or vector(0)`, legend: "withheld" },
    ),
  )
  .withPanel(
    lines("Breakers: 0 closed, 1 half-open, 2 open", "short", {
      expr: `max by (rpc_method) (parley_rpc_client_breaker_state{${mine}}) or vector(0)`,
      legend: "{{rpc_method}}",
    }),
  )
  .withPanel(
    lines("Event loop: how late, 99 %, every process", "s", {
      expr: 'nodejs_eventloop_delay_seconds{quantile="0.99"}',
      legend: "{{instance}}",
    }),
  )
  .withPanel(
    lines("Event loop: how busy, every process", "percentunit", { expr: "nodejs_eventloop_utilization_ratio", legend: "{{instance}}" }),
  )
  .withPanel(lines("Heap, every process", "bytes", { expr: "sum by (instance) (v8js_memory_heap_used_bytes)", legend: "{{instance}}" }))
  .withPanel(
    lines("Garbage collection, seconds a second, every process", "percentunit", {
      expr: `sum by (v8js_gc_type) (rate(v8js_gc_duration_seconds_sum${window}))`,
      legend: "{{v8js_gc_type}}",
    }),
  );
