// The greeter and the gateway, for bench/telemetry.ts; with `off`, nothing is measured of their calls.
import { serve } from "@parley/chassis/serve.ts";
import { createGateway } from "@parley/gateway/gateway.ts";
import { greeter } from "@parley/greeter/service.ts";
import { Counter, Gauge, Histogram } from "prom-client";

if (process.argv[2] === "off") {
  const nothing = (): void => {};
  Object.assign(Counter.prototype, { inc: nothing });
  Object.assign(Gauge.prototype, { inc: nothing, dec: nothing, set: nothing });
  Object.assign(Histogram.prototype, { observe: nothing });
}
await serve([greeter, createGateway(["greeter"])]);
