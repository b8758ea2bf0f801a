import type { Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import type { Authenticate } from "../../auth/authenticate.ts";
import type { ServiceToken } from "../../auth/service-token.ts";
import { access } from "./access.ts";
import { currentCall } from "./current-call.ts";
import { deadline } from "./deadline.ts";
import { errorBoundary } from "./error-boundary.ts";
import { metrics } from "./metrics.ts";
import { propagation } from "./propagation.ts";
import { requestLog } from "./request-log.ts";
import { validation } from "./validation.ts";

interface Telemetry {
  readonly log: Logger;
  readonly registry: Registry;
}

/** What happens about every call that a service serves, the first outermost: log and metrics see what the caller sees. */
export function serverInterceptors({ log, registry, authenticate }: Telemetry & { readonly authenticate: Authenticate }): Interceptor[] {
  return [
    currentCall,
    requestLog(log),
    metrics("grpc_server", registry),
    errorBoundary({ log, neighbours: "answer" }),
    deadline,
    access(authenticate),
    validation,
  ];
}

/** What happens about every call that the gateway passes on: the service behind it checks access and input. `report` tells the log of requests. */
export function gatewayInterceptors({ log, registry, report }: Telemetry & { readonly report: Interceptor }): Interceptor[] {
  return [currentCall, report, metrics("gateway", registry), errorBoundary({ log, neighbours: "relay" }), deadline];
}

/** What happens about every call that a service or the gateway makes; without `serviceToken`, as the gateway, it speaks for nobody. */
export function clientInterceptors({
  registry,
  serviceToken,
}: Pick<Telemetry, "registry"> & { readonly serviceToken?: ServiceToken }): Interceptor[] {
  return [metrics("grpc_client", registry), propagation(serviceToken)];
}
