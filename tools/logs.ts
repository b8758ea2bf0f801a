// Prints the story of a request or an order out of what a running or stopped npm start has logged: the lines of all
// services, in their order.
import { createReadStream, readdirSync } from "node:fs";
import { join } from "node:path";
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
  const [field, id] = trace === undefined ? ["request_id", request] : ["trace_id", trace];
  const found = order === undefined ? await findLines(directory, (line) => line[field] === id) : await findOrder(directory, order);
  if (found.length === 0) throw new StartError(`nothing is known of ${wanted} in ${directory}`);
  process.stdout.on("error", () => process.exit(0)); // head has seen enough
  const story = found.toSorted((a, b) => a.time.localeCompare(b.time)).map(({ line }) => line);
  if (!json) process.stdout.write(`traces: ${[...new Set(story.flatMap((line) => line["trace_id"] ?? []))].join(", ")}\n`);
  for (const line of story)
    process.stdout.write(`${json ? JSON.stringify(line) : `${line["timestamp"]} ${line["severity_text"]} ${textOf(line)}`}\n`);
} catch (error) {
  exitOnStartError(error);
}

/** Finds the lines that are about an order, and those of the traces that these belong to. */
async function findOrder(directory: string, orderId: string) {
  const isAbout = (line: Line): boolean => Object.entries(line).some(([name, value]) => value === orderId && isOfSubject(name));
  const traces = new Set((await findLines(directory, isAbout)).map(({ line }) => line["trace_id"]));
  return findLines(directory, (line) => isAbout(line) || (line["trace_id"] !== undefined && traces.has(line["trace_id"])));
}

/** Whether a field says what a line is about, such as `order_id` or `reservation_id`. A request's id and the like are whatever its client says. */
function isOfSubject(name: string): boolean {
  return name === "subject" || (name.endsWith("_id") && !["request_id", "trace_id", "span_id"].includes(name));
}

async function findLines(directory: string, isWanted: (line: Line) => boolean): Promise<{ time: string; line: Line }[]> {
  const found: { time: string; line: Line }[] = [];
  for (const file of filesOf(directory)) {
    for await (const text of linesOf(join(directory, file))) {
      const line = parse(text);
      if (line !== undefined && isWanted(line)) found.push({ time: String(line["timestamp"]), line });
    }
  }
  return found;
}

/** The lines of a file. Not node:readline's, which end at U+2028 too, as JSON's strings do not. */
async function* linesOf(file: string): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of createReadStream(file, "utf8")) {
    const [first = "", ...more] = String(chunk).split("\n");
    rest += first;
    for (const line of more) {
      yield rest;
      rest = line;
    }
  }
  yield rest;
}

function filesOf(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).flatMap((one) =>
      one.isFile() && one.name.endsWith(".jsonl") ? [one.name] : [],
    );
  } catch {
    throw new StartError(`there is no ${directory}: npm start keeps its log there`);
  }
}

/** The last line of a process that was killed may be cut off. */
function parse(text: string): Line | undefined {
  try {
    const line: unknown = JSON.parse(text);
    return typeof line === "object" && line !== null ? { ...line } : undefined;
  } catch {
    return undefined;
  }
}
