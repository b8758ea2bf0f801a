import { create } from "@bufbuild/protobuf";
import { EchoRequestSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, onTestFinished, test, vi } from "vitest";
import { createTestLog } from "../testing/rpc.ts";
import { createLoggerTo } from "./log.ts";

function withClock(): (ms: number) => void {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  return (ms) => void vi.advanceTimersByTime(ms);
}

test("an error that comes again and again is logged once, and ten seconds later counted", () => {
  const pass = withClock();
  const { log, logs } = createTestLog();
  const refused = new Error("refused");
  for (let time = 0; time < 1_000; time++) log.warn({ err: refused, table: "work", attempt: time }, "work failed");
  log.warn({ err: refused, table: "other" }, "work failed");
  log.warn({ err: new Error("too late"), table: "work" }, "work failed");
  expect(logs.map(({ table, "exception.message": message }) => [table, message])).toEqual([
    ["work", "refused"],
    ["other", "refused"],
    ["work", "too late"],
  ]);
  pass(10_000);
  expect(logs.slice(3)).toMatchObject([{ body: "work failed", table: "work", repeated: 999 }]);
  log.warn({ err: refused, table: "work" }, "work failed");
  expect(logs).toHaveLength(5);
});

test("of errors that are all different a thousand are logged in ten seconds, and the rest counted", () => {
  const pass = withClock();
  const { log, logs } = createTestLog();
  for (let time = 0; time < 1_500; time++) log.error({ key: `row-${time}` }, "work failed");
  expect(logs).toHaveLength(1_001);
  pass(10_000);
  expect(logs.at(-1)).toMatchObject({ body: "too many different errors: further ones are counted", repeated: 499 });
});

test("what is no error is logged each time", () => {
  const { log, logs } = createTestLog();
  for (let time = 0; time < 10; time++) log.info({ table: "work" }, "done");
  expect(logs).toHaveLength(10);
});

test("an error is shown by its stack, with its causes, and without its fields; a message by its type alone", () => {
  const { log, logs } = createTestLog();
  const error = Object.assign(new TypeError("outside", { cause: new Error("inside") }), { secret: "hunter2" });
  log.error({ err: error, request: create(EchoRequestSchema, { text: "hunter2" }) }, "failed");
  expect(logs).toMatchObject([
    {
      severity_text: "ERROR",
      body: "failed",
      "exception.type": "TypeError",
      "exception.stacktrace": expect.stringContaining("inside"),
      request: "a parley.testing.v1.EchoRequest",
    },
  ]);
  expect(JSON.stringify(logs)).not.toContain("hunter2");
});

test("a level that changes does for loggers that were made before", () => {
  const lines: string[] = [];
  const { log, setLevel } = createLoggerTo("info", { write: (line) => void lines.push(line) });
  const child = log.child({ "service.name": "echo" });
  child.debug("not yet");
  setLevel("debug");
  child.debug("now");
  expect(lines.map((line) => JSON.parse(line).body)).toEqual(["now"]);
});
