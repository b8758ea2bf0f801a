import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { makeDataDir } from "@parley/chassis/testing/data-dir.ts";
import { expect, onTestFinished, test } from "vitest";
import { startSuite } from "./suite.ts";

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
  expect((await sql(["catalog"], "SELECT 4")).out).toBe("?column?\n--------\n4\n(1 row)\n");
  expect((await sql(["catalog", "-c", "\\d"])).out).toMatch(/product +\| title +\| text/);
  expect((await sql([])).errors).toMatch(/^usage: npm run sql/);
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
  expect(await run(dataDir, "migrate.ts", ["--service", "catalog"])).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^catalog is at migration \d\n$/),
  });
  expect((await run(dataDir, "reset.ts", [])).out).toContain("nothing is deleted");
  expect((await run(dataDir, "reset.ts", [], "no\n")).out).toContain("nothing is deleted");
  expect(existsSync(join(dataDir, "postgres/data"))).toBe(true);
  expect((await run(dataDir, "reset.ts", [], "yes\n")).out).toContain("is deleted");
  expect(existsSync(join(dataDir, "postgres"))).toBe(false);
});

test("products are added for scale, tokens are signed, and events looked after, in a running suite", async () => {
  const suite = await startSuite();
  const tool = (name: string, ...args: string[]) => run(suite.dataDir, name, args);
  expect(await tool("seed.ts", "--products", "25")).toMatchObject({ code: 0, out: expect.stringContaining("seeded-1 to seeded-25") });
  expect(await (await fetch(`${suite.gatewayUrl}/v1/pages/products/seeded-25`)).json()).toMatchObject({
    product: { productId: "seeded-25" },
    stock: { available: "1000" },
  });
  expect(await tool("seed.ts")).toMatchObject({ code: 1, errors: expect.stringContaining("usage: npm run seed") });

  const { out: token } = await tool("token.ts", "--subject", "alice", "--role", "customer");
  expect((await fetch(`${suite.gatewayUrl}/v1/cart`, { headers: { authorization: `Bearer ${token.trim()}` } })).status).toBe(200);
  for (const args of [[], ["--subject", "alice"], ["--subject", "alice", "--role", "service"], ["--role", "customer"]])
    expect(await tool("token.ts", ...args)).toMatchObject({ code: 1, out: "", errors: expect.stringContaining("usage: npm run -s token") });

  expect((await tool("events.ts", "trim", "catalog", "--older-than", "1h")).out).toBe("events are deleted up to position 0\n");
  expect((await tool("events.ts", "trim", "catalog", "--older-than", "1ms")).out).toBe("events are deleted up to position 89\n");
  expect((await tool("events.ts", "list", "catalog")).errors).toBe("catalog consumes no events\n");
  expect((await tool("events.ts", "trim", "inventory", "--older-than", "1h")).errors).toBe("inventory has no event log\n");
  expect(await tool("ledger.ts")).toEqual({ code: 0, out: "the ledger agrees with all payments\n", errors: "" });
  for (const args of [[], ["list"], ["trim", "catalog"], ["skip", "catalog"], ["drop", "catalog"]])
    expect(await tool("events.ts", ...args)).toMatchObject({ code: 1, errors: expect.stringContaining("npm run events -- list") });
  expect(await suite.stop()).toBe(0);
});
