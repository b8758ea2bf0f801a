import {
  DashboardBuilder,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  VariableRefresh,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** The data source that whoever looks has chosen. */
const datasource = { type: "prometheus", uid: "$datasource" };

/** What a panel shows: an expression, and the name of each of its lines. */
export interface Query {
  readonly expr: string;
  readonly legend: string;
}

/** Returns a dashboard without panels, of the last hour. */
export function dashboard(uid: string, title: string): DashboardBuilder {
  return new DashboardBuilder(title)
    .uid(`parley-${uid}`)
    .tags(["parley"])
    .refresh("30s")
    .time({ from: "now-1h", to: "now" })
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"));
}

/** Returns a variable whose values are those of a label. */
export function labelVariable(name: string, metric: string, label: string): QueryVariableBuilder {
  return new QueryVariableBuilder(name)
    .label(name)
    .datasource(datasource)
    .query(`label_values(${metric}, ${label})`)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(1);
}

/** Returns a panel of lines over time, half as wide as the dashboard. `unit` is Grafana's word for it, such as `s` or `reqps`. */
export function lines(title: string, unit: string, ...queries: readonly Query[]): TimeseriesBuilder {
  const panel = new TimeseriesBuilder().title(title).unit(unit).datasource(datasource).height(8).span(12).min(0);
  for (const { expr, legend } of queries) panel.withTarget(new DataqueryBuilder().expr(expr).legendFormat(legend).range());
  return panel;
}

/** Returns a panel that shows the number of now. */
export function number(title: string, unit: string, { expr, legend }: Query): StatBuilder {
  const target = new DataqueryBuilder().expr(expr).legendFormat(legend).instant();
  return new StatBuilder().title(title).unit(unit).datasource(datasource).height(5).span(6).withTarget(target);
}

/** The codes with which a call failed for a fault of the service's. */
export const failed = 'rpc_response_status_code=~"UNKNOWN|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|DATA_LOSS"';
/** Streams, which last as long as somebody reads them. */
export const noStreams = 'rpc_method!~".*/(Watch.*|Read|HelloStream)"';
/** The time over which rates are taken: Grafana chooses it by what is shown. */
export const window = "[$__rate_interval]";

/** Returns the query of a quantile of durations, by these labels. */
export function quantileOf(share: number, metric: string, matchers: string, by: string, legend: string): Query {
  return { expr: `histogram_quantile(${share}, sum by (le, ${by}) (rate(${metric}_bucket{${matchers}}${window})))`, legend };
}
