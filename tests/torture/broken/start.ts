// Starts the suite as `npm start -- --split` does, but with payments that have a mistake.
import { join } from "node:path";
import { createGateway } from "@parley/gateway/gateway.ts";
import { services } from "../../../services/all.ts";
import { splitProcesses } from "../../../tools/split.ts";

const components = await Promise.all(Object.values(services).map((load) => load()));
const scripts = new Map([["payments", join(import.meta.dirname, "payments/main.ts")]]);
await splitProcesses(
  [...components, createGateway(Object.keys(services))],
  {
    replicas: new Map([
      ["orders", 2],
      ["payments", 2],
    ]),
    scripts,
  },
  () => {
    process.stdout.write("ready in no time\n");
  },
);
