// Breaks things in a suite of its own under load, one after another, and measures what was promised: npm run chaos
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onStopSignal } from "@parley/chassis/signals.ts";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { parseArguments } from "../../tools/arguments.ts";
import { type Arena, openArena } from "./arena.ts";
import { type Outcome, runScenarios, tableOf } from "./chaos.ts";
import { diskFull, postgresGone, postgresSlow } from "./database-scenarios.ts";
import { mountDisk } from "./disk.ts";
import { overload } from "./overload.ts";
import { type Scenario, shortScenarios } from "./scenarios.ts";
import { wrongClock } from "./wrong-clock.ts";

const usage = "npm run chaos -- [--only <part of a fault's name>] [--json <file>]";
const times = { brokenMs: 15_000, quietMs: 5_000, slack: 1 };
let opening: Promise<Arena> | undefined;
let disk: ReturnType<typeof mountDisk>;
onStopSignal({
  async stop() {
    await (await opening?.catch(() => undefined))?.stop();
    disk?.unmount();
    process.exit(130);
  },
  kill: () => process.exit(130),
});

try {
  const options = { only: { type: "string", default: "" }, json: { type: "string", default: "" } } as const;
  const { only, json } = parseArguments({ options }, usage).values;
  const isWanted = ({ name }: Scenario): boolean => name.includes(only);
  const outcomes: Outcome[] = [];
  const scenarios = [...shortScenarios, overload, postgresSlow, postgresGone, wrongClock];
  const names = [...scenarios, diskFull("")].map(({ name }) => name);
  if (!names.some((name) => name.includes(only))) throw new StartError(`no fault is called ${only}; there are\n  ${names.join("\n  ")}`);
  await run(scenarios.filter(isWanted));
  if (isWanted(diskFull(""))) disk = mountDisk();
  if (disk !== undefined) {
    const dataDir = join(disk.path, "data");
    mkdirSync(dataDir);
    await run([diskFull(disk.path)], dataDir).finally(disk.unmount);
  } else if (isWanted(diskFull(""))) process.stdout.write(`${diskFull("").name}: left out, for only root can mount a disk\n`);
  if (json !== "") writeFileSync(json, `${JSON.stringify(outcomes, undefined, 2)}\n`);
  process.stdout.write(`\n${tableOf(outcomes)}\n`);
  process.exitCode = outcomes.every(({ findings }) => findings.every(({ isKept }) => isKept)) ? 0 : 1;

  async function run(scenarios: readonly Scenario[], dataDir?: string): Promise<void> {
    if (scenarios.length === 0) return;
    opening = openArena({ seconds: 600, ...(dataDir !== undefined && { dataDir }) });
    const arena = await opening;
    try {
      const begin = (name: string): void => void process.stdout.write(`${name} …\n`);
      const some = await runScenarios(arena, scenarios, times, begin, ({ findings }) => {
        for (const { promise, measured, isKept } of findings)
          process.stdout.write(`  ${isKept ? "kept  " : "BROKEN"}  ${promise}: ${measured}\n`);
      });
      outcomes.push(...some);
    } finally {
      await arena.stop();
    }
  }
} catch (error) {
  exitOnStartError(error);
}
