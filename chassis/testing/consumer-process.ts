// A consumer as a process of its own, for tests that kill or freeze it: it records each number of a
// log in the table `effect`, and tells its parent.

import { createClient } from "@connectrpc/connect";
import { EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { NumberCountedSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { sql } from "kysely";
import { pino } from "pino";
import { onEvent, startConsumer } from "../data/consumer.ts";
import { openDatabase } from "../data/database.ts";
import { openTransport } from "../rpc/transport.ts";
import { testDatabaseOptions } from "./database-options.ts";
import { testTelemetry } from "./telemetry.ts";

const [url = "", port = "", token = ""] = process.argv.slice(2);
const database = openDatabase(testDatabaseOptions(url));
const transport = openTransport({
  target: `ipv4:127.0.0.1:${port}`,
  contracts: [EventLogService],
  peerName: "log",
  telemetry: testTelemetry(),
  serviceToken: async () => token,
  maxMessageBytes: 4 * 1024 * 1024,
});
const countNumber = onEvent(NumberCountedSchema, async (tx, { number }) => {
  await sql`INSERT INTO effect (number, process) VALUES (${number}, ${process.pid})`.execute(tx);
  process.send?.({ number: Number(number) });
});
await startConsumer({
  database,
  log: pino({ level: "silent" }),
  leaseMs: 1_000,
  sources: { counter: { client: createClient(EventLogService, transport), handlers: [countNumber] } },
});
