// Starts the suite as `npm start -- --split` does, with two replicas of each service, of which some can be let fail.
import { join } from "node:path";
import { services } from "../../services/all.ts";
import { loadComponents } from "../../tools/components.ts";
import { splitProcesses } from "../../tools/split.ts";

const replicas = new Map(Object.keys(services).map((name) => [name, 2]));
const scripts = new Map(["inventory", "orders", "payments"].map((name) => [name, join(import.meta.dirname, `faulty/${name}/main.ts`)]));
await splitProcesses(await loadComponents(), { replicas, scripts }, (parts) => {
  // Whoever has started it must know which process is which.
  process.stdout.write(`${JSON.stringify(parts)}\nready in no time\n`);
});
