import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { makeDataDir, startSuite } from "./suite.ts";

const tools = join(import.meta.dirname, "../tools");

/** Runs a tool to its end, with this as its input. */
async function run(dataDir: string, tool: string, args: readonly string[], input = "") {
  const env = { ...process.env, PARLEY_DATA_DIR: dataDir, PARLEY_LOG_LEVEL: "silent" };
  const child = spawn(process.execPath, [join(tools, tool), ...args], { env, stdio: ["pipe", "pipe", "pipe"] });
  child.stdin.end(input);
  const output = { out: "", errors: "" };
  child.stdout.on("data", (chunk) => (output.out += chunk));
  child.stderr.on("data", (chunk) => (output.errors += chunk));
  const [code] = await once(child, "close");
  return { code, ...output };
}

test("a running suite's data can be looked at, and is not deleted under it", async () => {
  const suite = await startSuite();
  const sql = (args: readonly string[], input?: string) => run(suite.dataDir, "sql.ts", args, input);
  expect(await sql(["catalog", "-c", "SELECT title, price_minor_units FROM product WHERE product_id = 'kite'"])).toEqual({
    code: 0,
    out: "title | price_minor_units\n------+------------------\nKite  | 2490\n(1 row)\n",
    errors: "",
  });
  expect((await sql(["catalog"], "SELECT 1 AS one,\n2 AS two;\nSELECT 3;\nexit\n")).out).toMatch(/one \| two\n.*3\n\(1 row\)\n$/s);
  expect(await sql(["catalog", "-c", "SELEC"])).toEqual({ code: 1, out: "", errors: 'ERROR: syntax error at or near "SELEC"\n' });
  expect((await sql(["nobody"])).errors).toMatch(/^there is no service nobody; there are .*catalog/);
  expect((await sql(["greeter"])).errors).toBe("greeter has no database\n");
  expect(await run(suite.dataDir, "reset.ts", ["--yes"])).toMatchObject({ code: 1, errors: expect.stringContaining("another suite uses") });
  expect((await fetch(`${suite.gatewayUrl}/v1/products/kite`)).status).toBe(200);
  expect(await suite.stop()).toBe(0);
});

test("a database can be made without a suite, and is deleted only after a yes", async () => {
  const dataDir = makeDataDir();
  onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }));
  expect((await run(dataDir, "sql.ts", ["catalog", "-c", "SELECT 1"])).errors).toContain(
    "cannot be reached: start the suite, or set PARLEY_CATALOG_DATABASE_URL",
  );
  expect(await run(dataDir, "migrate.ts", ["--service", "catalog"])).toEqual({ code: 0, out: "", errors: "" });
  expect((await run(dataDir, "reset.ts", [], "no\n")).out).toContain("nothing is deleted");
  expect(existsSync(join(dataDir, "postgres/data"))).toBe(true);
  expect((await run(dataDir, "reset.ts", [], "yes\n")).out).toContain("is deleted");
  expect(existsSync(join(dataDir, "postgres"))).toBe(false);
});
