// The suite, which collects its garbage when it is told to.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");
process.on("SIGWINCH", () => collectGarbage()); // with an argument it would collect the young alone
await import("../../tools/start.ts");
