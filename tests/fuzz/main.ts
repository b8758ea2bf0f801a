// Sends the gateway what nobody should: npm run fuzz -- --seconds 300 --seed 42
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { parseArguments } from "../../tools/arguments.ts";
import { fuzz } from "./fuzz.ts";

const usage = "npm run fuzz -- [--seconds 60] [--seed 42]";

try {
  const options = { seconds: { type: "string", default: "60" }, seed: { type: "string" } } as const;
  const { seconds, seed: given } = parseArguments({ options }, usage).values;
  const seed = given === undefined ? Math.floor(Math.random() * 1_000_000) : Number(given);
  if (!(Number(seconds) > 0) || !Number.isSafeInteger(seed)) throw new StartError(`usage: ${usage}`);
  process.stdout.write(`seed ${seed}; the gateway of a suite of its own is sent nonsense for ${seconds} s\n`);
  const { sent, answers, memory, violations } = await fuzz({ seconds: Number(seconds), seed });
  const listOf = (counts: Readonly<Record<string, number>>): string =>
    Object.entries(counts)
      .map(([name, count]) => `${count} ${name}`)
      .join(", ");
  process.stdout.write(`sent        ${listOf(sent)}
answers     ${listOf(answers)}
memory      ${memory.before} MiB before, ${memory.after} MiB after
violations  ${violations.length}
${violations
  .slice(0, 50)
  .map((text) => `  ${text}\n`)
  .join("")}`);
  process.exit(violations.length === 0 ? 0 : 1);
} catch (error) {
  exitOnStartError(error);
}
