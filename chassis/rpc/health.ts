import { EventEmitter, once } from "node:events";
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
  const changes = new EventEmitter().setMaxListeners(0);
  const implementation = implement(Health, {
    check({ service }) {
      if (!known.has(service))
        throw new ConnectError(`there is no such service here; there are ${[...known].join(" ").trim()}`, Code.NotFound);
      return { status };
    },
    async *watch({ service }, { signal }) {
      let sent: ServingStatus | undefined;
      while (true) {
        const current = known.has(service) ? status : ServingStatus.SERVICE_UNKNOWN;
        if (current === sent) await once(changes, "change", { signal });
        else yield { status: current };
        sent = current;
      }
    },
    list: () => ({ statuses: Object.fromEntries([...known].map((name) => [name, { status }])) }),
  });
  return {
    implementation,
    setServing(serving) {
      status = serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
      changes.emit("change");
    },
  };
}
