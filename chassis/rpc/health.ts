import { Code, ConnectError, type ServiceImplSpec } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "@parley/gen/grpc/health/v1/health_pb.js";
import { implement } from "./implement.ts";

/** The health of one server, and of each contract that it serves: they are well or not together. */
export interface HealthState {
  /** Serves `grpc.health.v1` (the gRPC health checking protocol). */
  readonly implementation: ServiceImplSpec;
  setServing(serving: boolean): void;
}

/** Creates the health of a server of the contracts named; it begins as not serving. */
export function createHealth(contractNames: readonly string[]): HealthState {
  const known = new Set(["", ...contractNames]);
  let status = ServingStatus.NOT_SERVING;
  let changed = Promise.withResolvers<void>();
  const implementation = implement(Health, {
    check({ service }) {
      if (!known.has(service)) throw new ConnectError(`${service} is not served here`, Code.NotFound);
      return { status };
    },
    async *watch({ service }) {
      while (true) {
        const change = changed.promise;
        yield { status: known.has(service) ? status : ServingStatus.SERVICE_UNKNOWN };
        await change;
      }
    },
    list: () => ({ statuses: Object.fromEntries([...known].map((name) => [name, { status }])) }),
  });
  return {
    implementation,
    setServing(serving) {
      status = serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
      changed.resolve();
      changed = Promise.withResolvers();
    },
  };
}
