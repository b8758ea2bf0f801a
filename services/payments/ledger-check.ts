import type { Stoppable } from "@parley/chassis/service.ts";
import type { Logger } from "pino";
import { Gauge, type Registry } from "prom-client";
import type { Ledger } from "./ledger.ts";

/** How often the ledger is compared with the payments: rarely, for it reads all of both. */
const everyMs = 300_000;

/** Starts to compare the ledger with the payments; the metric says of how many it says something else. */
export function startLedgerCheck({ ledger, registry, log }: { ledger: Ledger; registry: Registry; log: Logger }): Stoppable {
  const difference = new Gauge({
    name: "parley_ledger_differences",
    help: "Payments of which the ledger says something else, 100 at most; NaN: not known.",
    registers: [registry],
  });
  let checking = Promise.resolve();
  const check = (): void => {
    checking = ledger.listDifferences().then(
      (found) => {
        difference.set(found.length);
        for (const { paymentId, expected, inLedger } of found)
          log.error(
            { payment_id: paymentId, expected: String(expected), in_ledger: String(inLedger) },
            "the ledger differs from a payment",
          );
      },
      (error: unknown) => {
        difference.set(Number.NaN);
        log.warn({ err: error }, "the ledger cannot be checked; trying again");
      },
    );
  };
  difference.set(Number.NaN);
  check();
  const timer = setInterval(check, everyMs);
  return {
    async stop() {
      clearInterval(timer);
      await checking;
    },
  };
}
