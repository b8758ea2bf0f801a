import { duration } from "@parley/chassis/config.ts";
import { defineDatabase } from "@parley/chassis/data/database.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService, type Stoppable } from "@parley/chassis/service.ts";
import { PaymentsService } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { createHandlers } from "./handlers.ts";
import { createLedger } from "./ledger.ts";
import { startLedgerCheck } from "./ledger-check.ts";
import { createOperations } from "./operations.ts";
import type { PaymentProcessor } from "./processor.ts";
import { startReconciliation } from "./reconciliation.ts";
import { openSimulatedProcessor, simulatedProcessorConnections } from "./simulated-processor.ts";
import type { Tables } from "./store.ts";

export const paymentsDatabase = defineDatabase<Tables>({
  migrations: new URL("./migrations/", import.meta.url),
  extraConnections: simulatedProcessorConnections,
});

/** Defines payments, by way of a processor, which may keep its record beside payments' database. */
export const createPayments = (openProcessor: (databaseUrl: string) => PaymentProcessor & Stoppable) =>
  defineService({
    name: "payments",
    config: {
      PARLEY_PAYMENTS_PROCESSOR_TIMEOUT: duration("3s", "Time to wait for the payment processor, after which the outcome is unknown"),
    },
    database: paymentsDatabase,
    start({ config, database, log, telemetry }) {
      const processor = openProcessor(database.url);
      const operations = createOperations({ database, processor, processorTimeoutMs: config.PARLEY_PAYMENTS_PROCESSOR_TIMEOUT });
      return {
        handlers: [implement(PaymentsService, createHandlers({ database, operations }))],
        background: [
          processor,
          startReconciliation({ database, operations, log }),
          startLedgerCheck({ ledger: createLedger(database.db), registry: telemetry.registry, log }),
        ],
      };
    },
  });

/** Money: taken, given back, and accounted for. */
export const payments = createPayments(openSimulatedProcessor);
