import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { serve } from "@parley/chassis/serve.ts";
import type { Component } from "@parley/chassis/service.ts";
import { type Fault, type Faults, faultsVariable } from "../faults.ts";

/** How often it is looked what is wrong, in milliseconds. */
const lookMs = 50;
const codes = { unavailable: Code.Unavailable, internal: Code.Internal } as const;

/** Runs a service as its own script does, with what is wrong with it as a file says. */
export async function serveFaulty(component: Component): Promise<void> {
  const port = process.env["PARLEY_GRPC_BASE_PORT"] ?? "";
  const read = (): Fault | undefined => {
    const faults: Faults = JSON.parse(readFileSync(process.env[faultsVariable] ?? "", "utf8"));
    return faults[port];
  };
  while (read()?.kind === "dead") await delay(lookMs);
  let fault = read();
  setInterval(() => {
    fault = read();
  }, lookMs).unref();
  changeClock(() => (fault?.kind === "clock" ? fault.aheadMs : 0));
  const around: Interceptor = (next) => async (req) => {
    if (fault?.kind === "late") await delay(fault.ms);
    if (fault?.kind === "errors" && Math.random() < fault.share) throw new ConnectError("a fault of the test", codes[fault.code]);
    return next(req);
  };
  await serve([component], () => {}, { around });
}

/** Lets the process's clock of the day go wrong; that of performance.now() goes on. */
function changeClock(aheadMs: () => number): void {
  const RightDate = Date;
  class WrongDate extends RightDate {
    constructor(...given: unknown[]) {
      if (given.length === 0) super(WrongDate.now());
      else super(...(given as [number]));
    }
    static override now(): number {
      return RightDate.now() + aheadMs();
    }
  }
  Object.assign(globalThis, { Date: WrongDate });
}
