// Explores the checkout of one order further than the tests do: npm run model -- --attempts 3 --lost 1 --cancels 1
import { parseArguments } from "../../tools/arguments.ts";
import { explore } from "./explore.ts";

const usage = "usage: npm run model -- [--attempts 2] [--lost 2] [--cancels 1]";
const number = (byDefault: string) => ({ type: "string", default: byDefault }) as const;
const options = { attempts: number("2"), lost: number("2"), cancels: number("1") };
const { attempts, lost, cancels } = parseArguments({ options }, usage).values;
const bounds = { attempts: Number(attempts), lost: Number(lost), cancels: Number(cancels) };
if (Object.values(bounds).some((bound) => !Number.isSafeInteger(bound) || bound < 0)) throw new Error(usage);
const { states, ends, violation } = explore(bounds);
process.stdout.write(`${states} states, ends ${JSON.stringify(ends)}\n`);
if (violation !== undefined) process.stdout.write(`violation: ${violation.text}\n  ${violation.way.join("\n  ")}\n`);
process.exitCode = violation === undefined ? 0 : 1;
