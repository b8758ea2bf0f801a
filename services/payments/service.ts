import { duration } from "@parley/chassis/config.ts";
import { defineDatabase } from "@parley/chassis/data/database.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { defineService, type Stoppable } from "@parley/chassis/service.ts";
import { PaymentsService } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { createHandlers } from "./handlers.ts";
import { startLedgerCheck } from "./ledger-check.ts";
import type { PaymentProcessor } from "./processor.ts";
import { createSettlement, startSettling } from "./settlement.ts";
import { openSimulatedProcessor, simulatedProcessorConnections } from "./simulated-processor.ts";
import { createStore, type Tables } from "./store.ts";

export const paymentsDatabase = defineDatabase<Tables>({
  migrations: new URL("./migrations/", import.meta.url),
  otherConnections: simulatedProcessorConnections,
});

/** Money: taken, given back, and accounted for; moved by a processor that is opened beside its database. */
export const createPayments = (openProcessor: (databaseUrl: string) => PaymentProcessor & Stoppable) =>
  defineService({
    name: "payments",
    config: {
      PARLEY_PAYMENTS_PROCESSOR_TIMEOUT: duration("3s", "Time to wait for the payment processor, after which the outcome is unknown"),
    },
    database: paymentsDatabase,
    start({ config, database, log, registry }) {
      const processor = openProcessor(database.url);
      const settlement = createSettlement({ database, processor, processorTimeoutMs: config.PARLEY_PAYMENTS_PROCESSOR_TIMEOUT });
      const store = createStore(database.db);
      return {
        handlers: [implement(PaymentsService, createHandlers({ settlement, store }))],
        work: [startSettling({ database, settlement, log }), startLedgerCheck({ store, registry, log }), processor],
      };
    },
  });

export const payments = createPayments(openSimulatedProcessor);
