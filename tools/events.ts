// Looks after the events of a service: those that its consumers set aside, and the age of its own log.
import { duration, readConfig } from "@parley/chassis/config.ts";
import { listSetAside, retrySetAside, skipEvents } from "@parley/chassis/data/consumer.ts";
import { openDatabase } from "@parley/chassis/data/database.ts";
import { trimEventLog } from "@parley/chassis/data/event-log.ts";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { parseArguments } from "./arguments.ts";
import { findServiceDatabase } from "./service-database.ts";

const usage = `npm run events -- list <service>                           events that it set aside
       npm run events -- retry <service> [--subject <subject>]    tries them again, in order
       npm run events -- skip <service> --source <other> --to <position>   moves its cursor of another's log
       npm run events -- trim <service> --older-than <duration>   deletes events of its own log, such as --older-than 720h`;

try {
  const text = { type: "string" } as const;
  const options = { subject: text, source: text, to: text, "older-than": text } as const;
  const { values, positionals } = parseArguments({ options, allowPositionals: true }, usage);
  const [verb = "", serviceName] = positionals;
  if (serviceName === undefined || !["list", "retry", "skip", "trim"].includes(verb)) throw new StartError(`usage: ${usage}`);
  const age = values["older-than"];
  if ((verb === "trim") !== (age !== undefined)) throw new StartError(`--older-than goes with trim, and trim with it\nusage: ${usage}`);
  const { source = "", to = "" } = values;
  if ((verb === "skip") !== (source !== "" && /^\d{1,18}$/.test(to)))
    throw new StartError(`--source and --to go with skip, and skip with them\nusage: ${usage}`);
  const database = openDatabase<unknown>(await findServiceDatabase(serviceName));
  try {
    if (age !== undefined) {
      const { "older-than": olderThanMs } = readConfig({ "older-than": duration("1h", "") }, { "older-than": age });
      process.stdout.write(`events are deleted up to position ${await trimEventLog(database, olderThanMs)}\n`);
    } else if (verb === "skip") {
      if (!(await skipEvents(database, source, BigInt(to)))) throw new StartError(`${serviceName} does not read the log of ${source}`);
      process.stdout.write(`${serviceName} goes on after position ${to} of ${source}\n`);
    } else if (verb === "retry") {
      process.stdout.write(`${await retrySetAside(database, values.subject)} events will be tried again by ${serviceName}\n`);
    } else {
      const events = await listSetAside(database);
      for (const { source, position, subject, type, error } of events)
        process.stdout.write(`${source} ${position}  ${subject}  ${type}  ${error}\n`);
      if (events.length === 0) process.stdout.write("no events are set aside\n");
    }
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "42P01")
      throw new StartError(`${serviceName} ${verb === "trim" ? "has no event log" : "consumes no events"}`);
    throw error;
  } finally {
    await database.close();
  }
} catch (error) {
  exitOnStartError(error);
}
