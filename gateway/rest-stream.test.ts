import { expect, test } from "vitest";
import { streamFormOf, withHeartbeat } from "./rest-stream.ts";

test.each([
  [null, "application/x-ndjson"],
  ["*/*", "application/x-ndjson"],
  ["application/json", "application/x-ndjson"],
  ["text/event-stream", "text/event-stream"],
  ["application/json, Text/Event-Stream;q=0.9", "text/event-stream"],
])("who accepts %s gets %s", (accept, type) => {
  expect(streamFormOf(accept).contentType).toBe(type);
});

test("while nothing comes a heartbeat does, and what comes is not lost", async () => {
  const late = Promise.withResolvers<void>();
  async function* values() {
    yield "first";
    await late.promise;
    yield "second";
  }
  const seen: string[] = [];
  for await (const value of withHeartbeat(values(), "heartbeat", 1)) {
    seen.push(value);
    if (seen.filter((text) => text === "heartbeat").length === 3) late.resolve();
  }
  expect(seen.filter((text) => text !== "heartbeat")).toEqual(["first", "second"]);
  expect(seen.slice(0, 4)).toEqual(["first", "heartbeat", "heartbeat", "heartbeat"]);
});

test("who leaves ends what is read, also between two heartbeats", async () => {
  let ended = false;
  async function* values() {
    try {
      for (;;) yield "value";
    } finally {
      ended = true;
    }
  }
  for await (const _ of withHeartbeat(values(), "heartbeat", 1_000)) break;
  expect(ended).toBe(true);
});
