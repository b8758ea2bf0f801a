import type { DescService } from "@bufbuild/protobuf";
import type { MethodConfig, ServiceConfig } from "@grpc/grpc-js";
import { isIdempotent } from "./contract.ts";

/**
 * Returns how a gRPC channel treats its calls (gRFC A2, A6): round robin over all addresses, and
 * up to two retries of `UNAVAILABLE` for the methods whose contract says that they may be
 * repeated. Retries are at most a tenth of the calls while a target keeps failing (A6, retryThrottling).
 */
export function createServiceConfig(contracts: readonly DescService[]): ServiceConfig {
  const retried: MethodConfig = {
    name: contracts.flatMap((contract) =>
      contract.methods.filter(isIdempotent).map((method) => ({ service: contract.typeName, method: method.name })),
    ),
    retryPolicy: {
      maxAttempts: 3,
      initialBackoff: "0.05s",
      maxBackoff: "1s",
      backoffMultiplier: 2,
      retryableStatusCodes: ["UNAVAILABLE"],
    },
  };
  return {
    loadBalancingConfig: [{ round_robin: {} }],
    methodConfig: retried.name.length > 0 ? [retried] : [],
    retryThrottling: { maxTokens: 10, tokenRatio: 0.1 },
  };
}
