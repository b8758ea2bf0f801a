import { dashboard, lines, window } from "./panels.ts";

/** Work in the background, and events. */
export const work = dashboard("work", "Parley: work and events")
  .withPanel(
    lines("Rows of work that are due", "short", {
      expr: 'max by (service_name, table) (parley_work_rows{state="due"})',
      legend: "{{service_name}} {{table}}",
    }),
  )
  .withPanel(
    lines("Rows of work that failed, and are tried again", "short", {
      expr: 'max by (service_name, table) (parley_work_rows{state="failing"})',
      legend: "{{service_name}} {{table}}",
    }),
  )
  .withPanel(
    lines("Rows of work that somebody works on", "short", {
      expr: 'max by (service_name, table) (parley_work_rows{state="leased"})',
      legend: "{{service_name}} {{table}}",
    }),
  )
  .withPanel(
    lines("How long the oldest has been due", "s", {
      expr: "max by (service_name, table) (parley_work_oldest_due_seconds)",
      legend: "{{service_name}} {{table}}",
    }),
  )
  .withPanel(lines("Events appended", "ops", { expr: `max by (source) (rate(parley_event_log_position${window}))`, legend: "{{source}}" }))
  .withPanel(lines("Events not handled yet", "short", { expr: "parley:event_consumer_lag", legend: "{{service_name}} of {{source}}" }))
  .withPanel(
    lines("Events set aside", "short", {
      expr: "max by (service_name, source) (parley_event_consumer_set_aside)",
      legend: "{{service_name}} of {{source}}",
    }),
  );
