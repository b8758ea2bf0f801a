import type { ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { Criticality } from "@parley/gen/parley/options/v1/options_pb.js";
import { Counter, Gauge } from "prom-client";
import type { EventLoopWatch } from "../event-loop.ts";
import { perRegistry, type Telemetry } from "../telemetry/telemetry.ts";
import { createAdaptiveLimit } from "./adaptive-limit.ts";
import { fail, retryAfter } from "./errors.ts";

/** After how long one that was refused may come again, in milliseconds: at random, so that not all come at once. */
const retryMs = { least: 500, most: 1_500 };

/** Refuses the calls on which least depends while a component has more to do than it can. */
export interface LoadShedder {
  /** Returns `OVERLOADED` where a call would be refused now: before anything is done for it, for a refusal must cost next to nothing where many are needed. */
  refusalOf(criticality: Criticality): ConnectError | undefined;
  /** Lets a call in, which must leave when it has ended. Throws `OVERLOADED` where it is refused. */
  admit(criticality: Criticality): () => void;
}

export function createLoadShedder({ serviceName, registry }: Telemetry, eventLoop: EventLoopWatch): LoadShedder {
  const { shed, current } = shedMetrics(registry);
  const limit = createAdaptiveLimit();
  for (const one of [Criticality.CRITICAL, Criticality.DEFAULT, Criticality.SHEDDABLE])
    shed.inc({ service_name: serviceName, criticality: nameOf(one) }, 0);
  eventLoop.onLook((meanLateMs) => {
    limit.adapt(meanLateMs);
    current.set({ service_name: serviceName }, Math.floor(limit.current));
  });
  const refuse = (criticality: Criticality): ConnectError => {
    shed.inc({ service_name: serviceName, criticality: nameOf(criticality) });
    const delayMs = retryMs.least + Math.random() * (retryMs.most - retryMs.least);
    return fail(ErrorReason.OVERLOADED, `${serviceName} has more to do than it can; try again later`, {}, retryAfter(delayMs));
  };
  return {
    refusalOf: (criticality) => (limit.isReached(criticality) ? refuse(criticality) : undefined),
    admit(criticality) {
      const leave = limit.admit(criticality);
      if (leave === undefined) throw refuse(criticality);
      return leave;
    },
  };
}

function nameOf(criticality: Criticality): string {
  return Criticality[criticality].toLowerCase();
}

const shedMetrics = perRegistry((registers) => ({
  shed: new Counter({
    name: "parley_rpc_server_shed_calls_total",
    help: "Calls refused because there was more to do than could be done.",
    labelNames: ["service_name", "criticality"],
    registers,
  }),
  current: new Gauge({
    name: "parley_rpc_server_calls_limit",
    help: "Calls in progress above which critical ones are refused, others at a part of it; it follows the event loop's delay.",
    labelNames: ["service_name"],
    registers,
  }),
}));
