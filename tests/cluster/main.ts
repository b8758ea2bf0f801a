// Installs the suite on a real cluster as an operator would, and breaks what an operator breaks:
//   PARLEY_CLUSTER_LOAD='kind load image-archive' npm run test:cluster [-- --json cluster.json]
// It works in a namespace of its own, which it deletes afterwards. See ../../k8s/README.md.
import { writeFileSync } from "node:fs";
import { exitOnStartError } from "@parley/chassis/start-error.ts";
import { parseArguments } from "../../tools/arguments.ts";
import { proveRelease } from "./proof.ts";
import { closeCluster, findMissing, openCluster } from "./setup.ts";
import type { Usage } from "./usage.ts";

const usage = "npm run test:cluster [-- --json cluster.json]";

try {
  const { json } = parseArguments({ options: { json: { type: "string", default: "cluster.json" } } }, usage).values;
  const missing = await findMissing();
  if (missing !== undefined) {
    process.stdout.write(`skipped: ${missing}\n`);
    process.exit(0);
  }
  const cluster = await openCluster();
  try {
    const report = await proveRelease(cluster, (line) => process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`));
    writeFileSync(json, `${JSON.stringify(report, undefined, 2)}\n`);
    const width = Math.max(...report.steps.map(({ what }) => what.length));
    process.stdout.write(
      `\n${report.steps.map(({ what, isRight, figures }) => `${isRight ? "ok  " : "FAIL"} ${what.padEnd(width)}  ${figures}`).join("\n")}\n`,
    );
    process.stdout.write(`\n${tableOf(report.usage)}\n\nwritten ${json}\n`);
    process.exitCode = report.steps.every(({ isRight }) => isRight) ? 0 : 1;
  } finally {
    await closeCluster(cluster);
  }
} catch (error) {
  exitOnStartError(error);
}
process.exit();

function tableOf(rows: readonly Usage[]): string {
  const lines = [Object.keys(rows[0] ?? {}), ...rows.map((row) => Object.values(row).map(String))];
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? [];
  const pad = (cell: string, column: number): string => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0));
  return lines.map((line) => line.map(pad).join("  ")).join("\n");
}
