// A small prompt on a service's database: npm run sql -- catalog, or with a statement: npm run sql -- catalog -c "SELECT 1"
import { createInterface } from "node:readline";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { Client, DatabaseError, types as pgTypes, type QueryArrayResult } from "pg";
import { parseArguments } from "./arguments.ts";
import { findServiceDatabase } from "./service-database.ts";

/** The number of the type interval, which pg reads into an object. */
const interval = 1186;
/** As in psql. */
const describe = "\\d";
const tables = `SELECT table_name AS table, column_name AS column, data_type AS type
  FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position`;

const usage = 'npm run sql -- catalog [-c "SELECT 1"]; \\d lists tables and columns';

try {
  const options = { command: { type: "string", short: "c" } } as const;
  const { values, positionals } = parseArguments({ options, allowPositionals: true }, usage);
  const [serviceName] = positionals;
  if (serviceName === undefined) throw new StartError(`usage: ${usage}`);
  const client = await connect(serviceName);
  const succeeded = values.command === undefined ? await prompt(client) : await run(client, values.command);
  await client.end();
  process.exitCode = succeeded ? 0 : 1;
} catch (error) {
  exitOnStartError(error);
}

async function connect(name: string): Promise<Client> {
  const types = {
    getTypeParser: (oid: number, format?: "text" | "binary") => (oid === interval ? String : pgTypes.getTypeParser(oid, format)),
  };
  const client = new Client({ connectionString: (await findServiceDatabase(name)).url, types });
  await client.connect();
  return client;
}

/** Runs each statement that ends with a semicolon, until the input ends. */
async function prompt(client: Client): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: `${client.database}> ` });
  const ask = (): void => {
    if (process.stdin.isTTY) lines.prompt(); // a pipe may have ended already
  };
  let statement = "";
  ask();
  for await (const line of lines) {
    if (statement === "" && /^(exit|quit|\\q)$/.test(line.trim())) break;
    statement += `${line}\n`;
    if (line.trimEnd().endsWith(";") || statement.trim() === describe) {
      await run(client, statement);
      statement = "";
    }
    ask();
  }
  lines.close();
  if (statement.trim() !== "") await run(client, statement);
  return true;
}

/** Runs a statement and prints its rows; returns whether it succeeded. */
async function run(client: Client, text: string): Promise<boolean> {
  try {
    const results: QueryArrayResult | QueryArrayResult[] = await client.query({
      text: text.trim() === describe ? tables : text,
      rowMode: "array",
    });
    for (const result of [results].flat()) process.stdout.write(tableOf(result));
    return true;
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    process.stderr.write(`${error.severity}: ${error.message}${error.hint === undefined ? "" : `\n${error.hint}`}\n`);
    return false;
  }
}

function tableOf({ fields, rows, command, rowCount }: QueryArrayResult): string {
  if (fields.length === 0) return `${command} ${rowCount ?? ""}\n`;
  const cells = [fields.map(({ name }) => name), ...rows.map((row) => row.map(textOf))];
  const widths = fields.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join(" | ")
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((width) => "-".repeat(width)).join("-+-"));
  return `${lines.join("\n")}\n(${rows.length} ${rows.length === 1 ? "row" : "rows"})\n`;
}

function textOf(value: unknown): string {
  if (value === null) return "";
  if (value instanceof Date) return value.toISOString();
  return (typeof value === "object" ? JSON.stringify(value) : String(value)).replaceAll(/\s+/g, " ");
}
