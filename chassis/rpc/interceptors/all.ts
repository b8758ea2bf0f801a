import type { Interceptor } from "@connectrpc/connect";
import type { Authenticate } from "../../auth/authenticate.ts";
import type { ServiceToken } from "../../auth/service-token.ts";
import type { Telemetry } from "../../telemetry/telemetry.ts";
import { about } from "./about.ts";
import { access } from "./access.ts";
import { currentCall } from "./current-call.ts";
import { deadline } from "./deadline.ts";
import { errorBoundary } from "./error-boundary.ts";
import { clientMetrics, serverMetrics } from "./metrics.ts";
import { propagation } from "./propagation.ts";
import { requestLog } from "./request-log.ts";
import { clientTracing, serverTracing } from "./tracing.ts";
import { validation } from "./validation.ts";

/** What happens about every call that a service serves, the first outermost: log and metrics see what the caller sees, and of what is refused for overload metrics alone. */
export function serverInterceptors({
  telemetry,
  shed,
  authenticate,
}: {
  readonly telemetry: Telemetry;
  readonly shed: Interceptor;
  readonly authenticate: Authenticate;
}): Interceptor[] {
  const { log } = telemetry;
  return [
    currentCall({ isEdge: false, telemetry }),
    serverTracing(telemetry),
    serverMetrics(telemetry),
    shed,
    requestLog(log),
    errorBoundary({ log, neighbours: "answer" }),
    deadline,
    access(authenticate),
    validation,
    about,
  ];
}

/** What happens about every call that the gateway passes on: the service behind it checks access and input. `report` tells the log of requests. */
export function gatewayInterceptors({
  telemetry,
  shed,
  report,
}: {
  readonly telemetry: Telemetry;
  readonly shed: Interceptor;
  readonly report: Interceptor;
}): Interceptor[] {
  const { log } = telemetry;
  return [
    currentCall({ isEdge: true, telemetry }),
    serverTracing(telemetry),
    report,
    serverMetrics(telemetry),
    shed,
    errorBoundary({ log, neighbours: "relay" }),
    deadline,
    about,
  ];
}

/** What happens about every call that a service or the gateway makes; without `serviceToken`, as the gateway, it speaks for nobody. */
export function clientInterceptors({
  peerName,
  telemetry,
  serviceToken,
}: {
  readonly peerName: string;
  readonly telemetry: Telemetry;
  readonly serviceToken?: ServiceToken | undefined;
}): Interceptor[] {
  return [clientMetrics(telemetry, peerName), clientTracing(telemetry, peerName), propagation(serviceToken)];
}
