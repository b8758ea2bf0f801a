// Prints the story of a request or an order out of what a running or stopped npm start has logged: the lines of all
// services, in their order.
import { createReadStream, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { commonConfig, readConfig } from "@parley/chassis/config.ts";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { textOf } from "@parley/chassis/telemetry/log-text.ts";
import { parseArguments } from "./arguments.ts";
import { logDirectory } from "./log-directory.ts";

type Line = Readonly<Record<string, unknown>>;
const usage = `npm run logs -- --trace <trace id>      what one request led to
       npm run logs -- --request <request id>  the same, by the answer's x-request-id
       npm run logs -- --order <order id>      all that concerns an order
       with --json, the lines as they are`;

try {
  const text = { type: "string" } as const;
  const options = { trace: text, request: text, order: text, json: { type: "boolean", default: false } } as const;
  const { trace, request, order, json } = parseArguments({ options }, usage).values;
  const wanted = trace ?? request ?? order;
  if (wanted === undefined || [trace, request, order].filter((id) => id !== undefined).length !== 1)
    throw new StartError(`usage: ${usage}`);
  const directory = logDirectory(process.env, readConfig(commonConfig, process.env).PARLEY_DATA_DIR);
  const found = order === undefined ? await findLines(directory, new Set([wanted])) : await findOrder(directory, wanted);
  if (found.length === 0) throw new StartError(`nothing is known of ${wanted} in ${directory}`);
  process.stdout.on("error", () => process.exit(0)); // head has seen enough
  const story = found.toSorted((a, b) => a.time.localeCompare(b.time)).map(({ line }) => line);
  if (!json) process.stdout.write(`traces: ${[...new Set(story.flatMap((line) => line["trace_id"] ?? []))].join(", ")}\n`);
  for (const line of story)
    process.stdout.write(`${json ? JSON.stringify(line) : `${line["timestamp"]} ${line["severity_text"]} ${textOf(line)}`}\n`);
} catch (error) {
  exitOnStartError(error);
}

/** Finds the lines that name an order, and those of the traces that these belong to. */
async function findOrder(directory: string, orderId: string) {
  const named = await findLines(directory, new Set([orderId]));
  const traces = named.flatMap(({ line }) => (typeof line["trace_id"] === "string" ? [line["trace_id"]] : []));
  return findLines(directory, new Set([orderId, ...traces]));
}

/** Finds the lines in which one of the ids stands. */
async function findLines(directory: string, ids: ReadonlySet<string>): Promise<{ time: string; line: Line }[]> {
  const found: { time: string; line: Line }[] = [];
  for (const file of filesOf(directory)) {
    for await (const text of createInterface({ input: createReadStream(join(directory, file)) })) {
      const line = parse(text);
      if (line !== undefined && Object.values(line).some((value) => typeof value === "string" && ids.has(value)))
        found.push({ time: String(line["timestamp"]), line });
    }
  }
  return found;
}

function filesOf(directory: string): string[] {
  try {
    return readdirSync(directory).filter((file) => file.endsWith(".jsonl"));
  } catch {
    throw new StartError(`there is no ${directory}: npm start keeps its log there`);
  }
}

/** The last line of a process that was killed may be cut off. */
function parse(text: string): Line | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
