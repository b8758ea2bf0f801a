import { setTimeout as delay } from "node:timers/promises";
import type { Arena } from "./arena.ts";
import type { Finding, Scenario, Times } from "./scenarios.ts";

/** What came of a scenario. */
export interface Outcome {
  readonly name: string;
  readonly findings: readonly Finding[];
}

/** Runs scenarios one after the other, each after a quiet time. */
export async function runScenarios(
  arena: Arena,
  scenarios: readonly Scenario[],
  { quietMs, ...times }: Times & { readonly quietMs: number },
  onBegin: (name: string) => void = () => {},
  onOutcome: (outcome: Outcome) => void = () => {},
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const scenario of scenarios) {
    onBegin(scenario.name);
    await delay(quietMs);
    const outcome = { name: scenario.name, findings: await scenario.run(arena, times) };
    outcomes.push(outcome);
    onOutcome(outcome);
  }
  return outcomes;
}

/** The outcomes as a table of Markdown. */
export function tableOf(outcomes: readonly Outcome[]): string {
  const rows = outcomes.flatMap(({ name, findings }) =>
    findings.map(
      ({ promise, measured, isKept }, index) =>
        `| ${index === 0 ? name : ""} | ${promise} | ${measured} | ${isKept ? "kept" : "**broken**"} |`,
    ),
  );
  return ["| fault | promise | measured | |", "| --- | --- | --- | --- |", ...rows].join("\n");
}
