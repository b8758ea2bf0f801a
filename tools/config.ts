// Prints every variable that configures the suite: its unit, its default and what it means.
import { type ConfigShape, commonConfig } from "@parley/chassis/config.ts";
import { z } from "zod";
import { loadComponents } from "./components.ts";

const components = await loadComponents();
const shared = components.flatMap(({ config }, index) =>
  Object.entries(config).filter(([name]) => components.some((other, place) => place > index && name in other.config)),
);
const isShared = new Set(shared.map(([name]) => name));
const parts = [
  { name: "every process", config: commonConfig },
  { name: "several services", config: Object.fromEntries(shared) },
  ...components.map(({ name, config }) => ({
    name,
    config: Object.fromEntries(Object.entries(config).filter(([key]) => !isShared.has(key))),
  })),
];
process.stdout.write(parts.map(({ name, config }) => tableOf(name, config)).join("\n"));

function tableOf(title: string, config: ConfigShape): string {
  const rows = Object.entries(config).map(([name, schema]) => {
    const { description, unit } = schema.meta() ?? {};
    const value = schema.safeParse(undefined).success ? String(defaultOf(schema)) : "set by npm start";
    return [name, String(unit), value === "" ? "none" : value, description ?? ""];
  });
  if (rows.length === 0) return `${title}: nothing of its own\n`;
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  "));
  return `${title}\n  ${lines.join("\n  ")}\n`;
}

/** The default as it would be written in the environment, or what stands for it. */
function defaultOf(schema: z.ZodType): unknown {
  const { shownDefault, default: value } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return shownDefault ?? value;
}
