import { pino } from "pino";
import { Registry } from "prom-client";
import type { Telemetry } from "../telemetry/telemetry.ts";

/** What a component of a test says of itself, which goes nowhere unless the test says where. */
export function testTelemetry(overrides: Partial<Telemetry> = {}): Telemetry {
  return { serviceName: "test", log: pino({ level: "silent" }), registry: new Registry(), tracer: undefined, ...overrides };
}
