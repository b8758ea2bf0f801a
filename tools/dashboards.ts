// Writes Grafana's dashboards, out of k8s/dashboards, as the chart has them: k8s/parley/dashboards. With --check it writes
// nothing and fails where they are stale.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { orders } from "../k8s/dashboards/orders.ts";
import { overview } from "../k8s/dashboards/overview.ts";
import { postgres } from "../k8s/dashboards/postgres.ts";
import { service } from "../k8s/dashboards/service.ts";
import { work } from "../k8s/dashboards/work.ts";

const folder = join(import.meta.dirname, "../k8s/parley/dashboards");

for (const [name, builder] of Object.entries({ overview, service, orders, postgres, work })) {
  const file = join(folder, `${name}.json`);
  const text = `${JSON.stringify(builder.build(), undefined, 2)}\n`;
  if (!process.argv.includes("--check")) writeFileSync(file, text);
  else if (!existsSync(file) || readFileSync(file, "utf8") !== text) {
    process.stderr.write(`k8s/parley/dashboards/${name}.json is not what k8s/dashboards says: run npm run dashboards\n`);
    process.exitCode = 1;
  }
}
