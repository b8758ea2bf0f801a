import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, onTestFinished, test } from "vitest";

/** Checks a tree of two services, a chassis and a gateway with one more file. */
function check(file: string, source: string): { status: number | null; stderr: string } {
  const root = mkdtempSync(join(tmpdir(), "parley-imports-"));
  onTestFinished(() => rmSync(root, { recursive: true }));
  const dependencies = Object.fromEntries(
    ["@parley/gen", "@parley/chassis", "@parley/carts", "@parley/orders", "kysely"].map((name) => [name, "1"]),
  );
  for (const folder of [".", "gen", "chassis", "gateway", "services/orders", "services/carts"]) {
    mkdirSync(join(root, folder), { recursive: true });
    const manifest = { name: `@parley/${folder.split("/").at(-1)}`, dependencies, devDependencies: { vitest: "1" } };
    writeFileSync(join(root, folder, "package.json"), JSON.stringify(manifest));
  }
  mkdirSync(dirname(join(root, file)), { recursive: true });
  writeFileSync(join(root, file), source);
  return spawnSync(process.execPath, [join(import.meta.dirname, "check-imports.ts"), root], { encoding: "utf8" });
}

test.each([
  ["services/orders/service.ts", 'import { x } from "@parley/chassis/service.ts";'],
  ["services/orders/service.ts", 'import { x } from "@parley/gen/x.js";'],
  ["services/orders/service.ts", 'import { x } from "./store.ts";'],
  ["services/orders/deep/er/file.ts", 'import { x } from "../../store.ts";'],
  ["services/orders/service.ts", 'import { x } from "kysely";'],
  ["services/orders/service.ts", 'import { x } from "node:fs";'],
  ["services/orders/service.test.ts", 'import { x } from "vitest";'],
  ["services/all.ts", 'import("@parley/orders/service.ts");'],
  ["gateway/main.ts", 'import { x } from "../services/all.ts";'],
  ["tests/any.test.ts", 'import { x } from "../services/orders/store.ts";'],
])("%s may say %s", (file, source) => {
  expect(check(file, source)).toMatchObject({ status: 0, stderr: "" });
});

test.each([
  ["services/orders/service.ts", 'import { x } from "@parley/carts/store.ts";'],
  ["services/orders/service.ts", 'import { x } from "../carts/store.ts";'],
  ["services/orders/deep/er/file.ts", 'export { x } from "../../../carts/store.ts";'],
  ["services/orders/service.ts", 'const x = await import("../carts/store.ts");'],
  ["services/orders/service.ts", 'import "../../gateway/main.ts";'],
  ["services/orders/service.ts", 'import { x } from "../all.ts";'],
  ["services/orders/service.ts", 'import { x } from "vitest";'],
  ["services/orders/service.ts", 'import { x } from "zod/v4";'],
  ["chassis/service.ts", 'import { x } from "@parley/orders/service.ts";'],
  ["chassis/service.ts", 'import { x } from "../gateway/main.ts";'],
  ["gen/x.ts", 'import { x } from "../chassis/service.ts";'],
  ["gateway/main.ts", 'import { x } from "../services/orders/service.ts";'],
  ["gateway/main.ts", 'import { x } from "../tests/suite.ts";'],
])("%s may not say %s", (file, source) => {
  const { status, stderr } = check(file, source);
  expect(status).toBe(1);
  expect(stderr).toContain(`${file}: `);
});
