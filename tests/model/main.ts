// Explores the checkout of one order further than the tests do: npm run model -- --attempts 3 --lost 1 --cancels 1
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { parseArguments } from "../../tools/arguments.ts";
import { explore } from "./explore.ts";

const usage = "npm run model -- [--attempts 2] [--lost 2] [--cancels 1]";

try {
  const number = (byDefault: string) => ({ type: "string", default: byDefault }) as const;
  const options = { attempts: number("2"), lost: number("2"), cancels: number("1") };
  const { attempts, lost, cancels } = parseArguments({ options }, usage).values;
  const bounds = { attempts: Number(attempts), lost: Number(lost), cancels: Number(cancels) };
  if (Object.values(bounds).some((bound) => !Number.isSafeInteger(bound) || bound < 0)) throw new StartError(`usage: ${usage}`);
  const { states, ends, violation } = explore(bounds);
  const { OUT_OF_ATTEMPTS: open = 0, ...final } = ends;
  process.stdout.write(`states      ${states}
ends        ${Object.entries(final)
    .map(([state, count]) => `${count} ${state}`)
    .join(", ")}; ${open} would need more than ${attempts} attempts
violations  ${violation === undefined ? "0" : `${violation.text}\n  ${violation.way.join("\n  ")}`}
`);
  process.exitCode = violation === undefined ? 0 : 1;
} catch (error) {
  exitOnStartError(error);
}
