import { dashboard, lines, number, quantileOf, window } from "./panels.ts";

const confirm = "parley_order_confirm_duration_seconds";

/** Orders and money. */
export const orders = dashboard("orders", "Parley: orders and money")
  .withPanel(number("Orders that are stuck", "short", { expr: "max(parley_orders_stuck)", legend: "orders" }))
  .withPanel(
    number("Payments that the ledger says something else of", "short", { expr: "max(parley_ledger_differences)", legend: "payments" }),
  )
  .withPanel(
    number("Reservations that are open", "short", {
      expr: 'sum(max by (state) (parley_work_rows{service_name="inventory",table="reservation"}))',
      legend: "reservations",
    }),
  )
  .withPanel(
    number("Payments whose outcome is open", "short", {
      expr: 'sum(max by (state) (parley_work_rows{service_name="payments",table="payment"}))',
      legend: "payments",
    }),
  )
  .withPanel(
    lines("Orders by the states that they come to", "ops", {
      expr: `sum by (state) (rate(parley_orders_total${window}))`,
      legend: "{{state}}",
    }),
  )
  .withPanel(
    lines(
      "Time to confirm an order",
      "s",
      { expr: `histogram_quantile(0.5, sum by (le) (rate(${confirm}_bucket${window})))`, legend: "50 %" },
      { expr: `histogram_quantile(0.99, sum by (le) (rate(${confirm}_bucket${window})))`, legend: "99 %" },
    ),
  )
  .withPanel(lines("Orders that take longer than 10 s", "percentunit", { expr: "parley:order_confirm_slow:ratio_rate5m", legend: "slow" }))
  .withPanel(
    lines(
      "Checkout: steps, 99 %",
      "s",
      quantileOf(
        0.99,
        "rpc_client_call_duration_seconds",
        'service_name="orders",service_peer_name=~"inventory|payments"',
        "rpc_method",
        "{{rpc_method}}",
      ),
    ),
  )
  .withPanel(
    lines("Orders in the checkout", "short", {
      expr: 'max by (state) (parley_work_rows{service_name="orders",table="customer_order"})',
      legend: "{{state}}",
    }),
  );
