// Tortures the suite: npm run torture -- --minutes 5 --seed 42 --json report.json
import { writeFileSync } from "node:fs";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { parseArguments } from "../../tools/arguments.ts";
import { torture } from "./torture.ts";

const usage = "npm run torture -- [--minutes 1] [--seed 42] [--json torture.json]";

try {
  const options = {
    minutes: { type: "string", default: "1" },
    seed: { type: "string" },
    json: { type: "string", default: "torture.json" },
  } as const;
  const { minutes, seed: given, json } = parseArguments({ options }, usage).values;
  const seed = given === undefined ? Math.floor(Math.random() * 1_000_000) : Number(given);
  if (!(Number(minutes) > 0) || !Number.isSafeInteger(seed)) throw new StartError(`usage: ${usage}`);
  process.stdout.write(`seed ${seed}; a suite of its own is tortured for ${Number(minutes) * 60} s\n`);
  const report = await torture({ seconds: Number(minutes) * 60, seed });
  writeFileSync(json, `${JSON.stringify(report, undefined, 2)}\n`);
  const listOf = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${count} ${name}`)
      .join(", ");
  process.stdout.write(`orders      ${listOf(report.orders)}
calls       ${report.calls}, of which ${report.failures} failed or were refused
faults      ${listOf(report.faults)}
recovery    ${report.recoveryMs.median} ms in the median, ${report.recoveryMs.max} ms at most, to the next order that was confirmed
quiet       ${report.quietMs} ms after the last fault
violations  ${report.violations.length}
written     ${json}
${report.violations
  .slice(0, 50)
  .map((text) => `  ${text}\n`)
  .join("")}`);
  process.exit(report.violations.length === 0 ? 0 : 1);
} catch (error) {
  exitOnStartError(error);
}
