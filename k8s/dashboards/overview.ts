import { dashboard, failed, lines, noStreams, number, quantileOf, window } from "./panels.ts";

const calls = "rpc_server_call_duration_seconds";

/** The suite at a glance: rate, errors and duration of every service, and who calls whom. */
export const overview = dashboard("overview", "Parley: the suite")
  .withPanel(
    number("Calls at the gateway", "reqps", { expr: `sum(rate(${calls}_count{service_name="gateway"}${window}))`, legend: "calls" }),
  )
  .withPanel(
    number("Failed calls at the gateway", "percentunit", {
      expr: `sum(rate(${calls}_count{service_name="gateway",${failed}}${window})) / sum(rate(${calls}_count{service_name="gateway"}${window})) or sum(rate(${calls}_count{service_name="gateway"}${window})) * 0`,
      legend: "failed",
    }),
  )
  .withPanel(number("Orders that are stuck", "short", { expr: "max(parley_orders_stuck)", legend: "orders" }))
  .withPanel(
    number("Breakers that are open", "short", { expr: "count(parley_rpc_client_breaker_state == 2) or vector(0)", legend: "breakers" }),
  )
  .withPanel(
    lines("Calls by service", "reqps", { expr: `sum by (service_name) (rate(${calls}_count${window}))`, legend: "{{service_name}}" }),
  )
  .withPanel(lines("Failed calls by service", "percentunit", { expr: "parley:rpc_server_errors:ratio_rate5m", legend: "{{service_name}}" }))
  .withPanel(lines("Duration by service, 50 %", "s", quantileOf(0.5, calls, noStreams, "service_name", "{{service_name}}")))
  .withPanel(lines("Duration by service, 99 %", "s", quantileOf(0.99, calls, noStreams, "service_name", "{{service_name}}")))
  .withPanel(
    lines("Who calls whom", "reqps", {
      expr: `sum by (service_name, service_peer_name) (rate(rpc_client_call_duration_seconds_count${window}))`,
      legend: "{{service_name}} → {{service_peer_name}}",
    }),
  )
  .withPanel(
    lines("What became of calls at the gateway", "reqps", {
      expr: `sum by (rpc_response_status_code) (rate(${calls}_count{service_name="gateway"}${window}))`,
      legend: "{{rpc_response_status_code}}",
    }),
  )
  .withPanel(lines("Memory", "bytes", { expr: "process_memory_usage_bytes", legend: "{{instance}}" }))
  .withPanel(
    lines("Processor", "short", { expr: `sum by (instance) (rate(process_cpu_time_seconds_total${window}))`, legend: "{{instance}}" }),
  );
