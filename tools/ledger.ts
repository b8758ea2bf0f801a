// Compares payments' ledger with its payments, in the suite that runs: npm run ledger

import { exitOnStartError } from "@parley/chassis/start-error.ts";
import { Account } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { createLedger } from "@parley/payments/ledger.ts";
import { paymentsDatabase } from "@parley/payments/service.ts";
import { parseArguments } from "./arguments.ts";
import { findServiceDatabase } from "./service-database.ts";

try {
  parseArguments({}, "npm run ledger");
  const database = paymentsDatabase.open(await findServiceDatabase("payments"));
  try {
    const ledger = createLedger(database.db);
    for (const { account, amount } of await ledger.listBalances())
      process.stdout.write(`${Account[account ?? 0]?.padEnd(10)} ${amount?.currencyCode} ${String(amount?.minorUnits).padStart(12)}\n`);
    const differences = await ledger.listDifferences();
    for (const { paymentId, state, expected, inLedger } of differences)
      process.stdout.write(`payment ${paymentId} is ${state} and should hold ${expected}; the ledger says ${inLedger}\n`);
    process.stdout.write(differences.length === 0 ? "the ledger agrees with all payments\n" : "");
    process.exitCode = differences.length === 0 ? 0 : 1;
  } finally {
    await database.close();
  }
} catch (error) {
  exitOnStartError(error);
}
