import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { methodName } from "@parley/chassis/rpc/contract.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { contractsOf } from "@parley/gateway/contracts.ts";
import { expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { services } from "../../services/all.ts";
import { startLoad } from "../chaos/load.ts";
import { openCustomer } from "../customer.ts";
import { shopOf, startSuite } from "../suite.ts";

const root = join(import.meta.dirname, "../..");
const rulesFile = join(root, "k8s/parley/files/rules.yaml");
const dashboards = join(root, "k8s/parley/dashboards");
const runbooks = readFileSync(join(root, "k8s/runbooks.md"), "utf8");

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly annotations?: { readonly runbook_url: string };
}

const groups: { groups: readonly { rules: readonly Rule[] }[] } = parse(readFileSync(rulesFile, "utf8"));
const rules = groups.groups.flatMap((group) => group.rules);
const alerts = rules.flatMap((rule) => (rule.alert === undefined ? [] : { ...rule, alert: rule.alert }));

/** Whether a program is there; tests that need one are skipped, and say so. */
function has(program: string): boolean {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
const promtool = test.skipIf(!has("promtool"));
const prometheus = test.skipIf(!has("prometheus"));
/** The queries of all dashboards, each with the panel that it is of. */
function listQueries(): { panel: string; expr: string }[] {
  return readdirSync(dashboards).flatMap((file) => {
    const { panels }: { panels: { title: string; targets: { expr: string }[] }[] } = JSON.parse(
      readFileSync(join(dashboards, file), "utf8"),
    );
    return panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ panel: `${file}: ${title}`, expr })));
  });
}

test.each(alerts)("the alert $alert leads to its section of the runbooks", ({ alert, annotations }) => {
  expect(annotations?.runbook_url).toBe(`k8s/runbooks.md#${alert.toLowerCase()}`);
  const section = new RegExp(`^## ${alert}\n([^]*?)(?=^## |(?![^]))`, "m").exec(runbooks)?.[1] ?? "";
  for (const part of ["**Customers**", "**Look**", "**Mend**"]) expect(section).toContain(part);
});

test.each(alerts)("the alert $alert has tests in which it fires and in which it is silent", ({ alert }) => {
  const { tests }: { tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[] } = parse(
    readFileSync(join(import.meta.dirname, "rules.test.yaml"), "utf8"),
  );
  const outcomes = tests.flatMap((one) => one.alert_rule_test).filter(({ alertname }) => alertname === alert);
  expect(new Set(outcomes.map(({ exp_alerts: expected }) => expected.length > 0))).toEqual(new Set([true, false]));
});

test("streams, which are long by design, are left out of how long calls take", () => {
  const streams = Object.keys(services).flatMap((name) =>
    contractsOf(name).flatMap((contract) => contract.methods.filter(({ methodKind }) => methodKind !== "unary").map(methodName)),
  );
  const slow = rules.filter(({ record }) => record?.startsWith("parley:rpc_server_slow:"));
  const leftOut = slow.flatMap(({ expr }) =>
    [...expr.matchAll(/rpc_method!~"([^"]+)"/g)].map(([, pattern]) => new RegExp(`^(?:${pattern})$`)),
  );
  expect(streams.length).toBeGreaterThan(2);
  expect(leftOut).toHaveLength(2 * slow.length);
  for (const pattern of leftOut) for (const method of streams) expect(method).toMatch(pattern);
});

promtool("promtool takes the rules, and each alert fires on its condition alone (needs Debian's prometheus)", () => {
  execFileSync("promtool", ["check", "rules", rulesFile], { stdio: "pipe" });
  execFileSync("promtool", ["test", "rules", join(import.meta.dirname, "rules.test.yaml")], { stdio: "pipe" });
});

prometheus(
  "every query of every dashboard and rule has data of a suite under load (needs Debian's prometheus)",
  async () => {
    const suite = await startSuite({ env: { PARLEY_LOG_LEVEL: "warn" } });
    const shop = shopOf(suite);
    const folder = mkdtempSync(join(tmpdir(), "parley-prometheus-"));
    const [port, adminPort] = [await findFreePorts(1), new URL(suite.adminUrl).port];
    writeFileSync(
      join(folder, "prometheus.yaml"),
      JSON.stringify({
        global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
        rule_files: [rulesFile],
        scrape_configs: [{ job_name: "parley", static_configs: [{ targets: [`127.0.0.1:${adminPort}`] }] }],
      }),
    );
    const address = `127.0.0.1:${port}`;
    const server = spawn(
      "prometheus",
      [
        `--config.file=${join(folder, "prometheus.yaml")}`,
        `--storage.tsdb.path=${join(folder, "data")}`,
        `--web.listen-address=${address}`,
      ],
      { stdio: "ignore" },
    );
    onTestFinished(() => {
      server.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    });
    const load = startLoad(suite.gatewayUrl, [
      { perSecond: 10, next: () => ({ name: "page", path: "/v1/pages/products/kite" }) },
      { perSecond: 2, next: () => ({ name: "failure", path: "/v1/products/nothing-of-that-name" }) },
    ]);
    let orders = 0;
    const ordering = setInterval(async () => {
      const customer = await openCustomer(shop, `watched-${++orders}`);
      await customer.place(await customer.fill(1)).catch(() => {}); // the suite may be stopping
    }, 500);
    const valuesOf = async (expr: string): Promise<number[]> => {
      const given = expr.replaceAll("$__rate_interval", "15s").replaceAll("$service", "orders");
      const response = await fetch(`http://${address}/api/v1/query?query=${encodeURIComponent(given)}`);
      const { data, error } = (await response.json()) as { data?: { result: { value: [number, string] }[] }; error?: string };
      if (data === undefined) throw new Error(`${given}: ${error}`);
      return data.result.map(({ value: [, value] }) => Number(value));
    };
    const isData = async (expr: string): Promise<boolean> => (await valuesOf(expr)).some((value) => !Number.isNaN(value));
    // An alert that does not fire has no data: what it is made of has.
    const selectors = alerts.flatMap(({ alert, expr }) =>
      [...expr.replace(/\b(by|on) \([^)]*\)/g, "").matchAll(/\b((?:parley|rpc|db|process)[a-z0-9_:]+)/g)].map(([, name = ""]) => ({
        panel: `the alert ${alert}`,
        expr: name,
      })),
    );
    const records = rules.flatMap(({ record }) => (record === undefined ? [] : { panel: "a recording rule", expr: record }));
    for (const { panel, expr } of [...listQueries(), ...selectors, ...records])
      await eventually(async () => expect([panel, expr, await isData(expr)]).toEqual([panel, expr, true]));
    clearInterval(ordering);
    await load.stop();
    expect(await suite.stop()).toBe(0);
  },
  120_000,
);
