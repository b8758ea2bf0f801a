import { dashboard, lines, number } from "./panels.ts";

/** Postgres, as the services see it. */
export const postgres = dashboard("postgres", "Parley: Postgres")
  .withPanel(
    number("Databases that cannot be used", "short", {
      expr: "count(min by (service_name) (parley_database_up) == 0) or vector(0)",
      legend: "databases",
    }),
  )
  .withPanel(
    lines("Connections in use", "short", {
      expr: 'sum by (service_name) (db_client_connection_count{db_client_connection_state="used"})',
      legend: "{{service_name}}",
    }),
  )
  .withPanel(
    lines("Connections that are idle", "short", {
      expr: 'sum by (service_name) (db_client_connection_count{db_client_connection_state="idle"})',
      legend: "{{service_name}}",
    }),
  )
  .withPanel(
    lines("Connections at most", "short", { expr: "sum by (service_name) (db_client_connection_max)", legend: "{{service_name}}" }),
  )
  .withPanel(
    lines("Statements and transactions that wait for a connection", "short", {
      expr: "sum by (service_name) (db_client_connection_pending_requests)",
      legend: "{{service_name}}",
    }),
  );
