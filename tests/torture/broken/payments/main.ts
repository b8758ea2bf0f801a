// Payments with a mistake: a request to the processor that is repeated has another key each time.
import { randomUUID } from "node:crypto";
import { serve } from "@parley/chassis/serve.ts";
import { createPayments } from "@parley/payments/service.ts";
import { openSimulatedProcessor } from "@parley/payments/simulated-processor.ts";

const broken = createPayments((url) => {
  const processor = openSimulatedProcessor(url);
  return { ...processor, authorize: (request) => processor.authorize({ ...request, key: randomUUID() }) };
});

await serve([broken]);
