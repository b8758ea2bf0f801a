// A worker as a process of its own, for tests that kill or freeze it: it takes rows of the table
// `job`, says so to its parent, and finishes each when it is told to.
import { once } from "node:events";
import { sql } from "kysely";
import { pino } from "pino";
import { openDatabase } from "../data/database.ts";
import { startWork } from "../data/work.ts";
import { testDatabaseOptions } from "./database-options.ts";

const [url = ""] = process.argv.slice(2);
const database = openDatabase(testDatabaseOptions(url));
startWork({
  database,
  table: "job",
  key: "job_id",
  leaseMs: 1_000,
  log: pino({ level: "silent" }),
  async handle({ key, attempt }) {
    process.send?.({ claimed: key, attempt });
    await once(process, "message");
    const { numAffectedRows } = await sql`
      UPDATE job SET handled = handled + 1, due_at = NULL WHERE job_id = ${key} AND attempt = ${attempt}`.execute(database.db);
    process.send?.({ changed: Number(numAffectedRows) });
  },
});
