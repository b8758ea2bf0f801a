import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { startSuite, tokenFor } from "./suite.ts";

const example = join(import.meta.dirname, "../examples/rest");
const run = async (command: string, ...args: string[]): Promise<string> => {
  const { stdout } = await promisify(execFile)(command, args, { cwd: example }).catch((error: unknown) => {
    const { stdout: out = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} failed:\n${out}${stderr}`);
  });
  return stdout;
};

test("a client that others' tools make of the OpenAPI document compiles, and orders something", async () => {
  const suite = await startSuite();
  onTestFinished(() => void suite.stop());
  const schema = join(example, "schema.d.ts");
  onTestFinished(() => rmSync(schema, { force: true }));
  await run("node_modules/.bin/openapi-typescript", `${suite.gatewayUrl}/openapi.json`, "--output", schema);
  await run("node_modules/.bin/tsc", "--project", ".");
  const lines = (await run(process.execPath, "client.ts", suite.gatewayUrl, await tokenFor(suite, "ada", "customer"))).trim().split("\n");
  expect(lines).toEqual([
    "Hello, Ada!",
    expect.stringMatching(/^1 line in the cart, \d+ EUR minor units$/),
    expect.stringMatching(/^400 PRICE_CHANGED: /),
    "ORDER_STATE_CONFIRMED",
  ]);
});
