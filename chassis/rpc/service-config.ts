import type { ServiceConfig } from "@grpc/grpc-js";
import { registerAnswerCounting } from "./load-balancing.ts";

/**
 * How a gRPC channel spreads its calls (gRFC A2): in turns over all addresses, those aside that failed more than 70 % of
 * their calls in the last second, 10 of them at least: for half a minute, and longer each further time in a row, but never more than
 * half of the addresses (gRFC A50). Retries and hedges are not gRPC's: `attempts.ts` makes them.
 */
export const serviceConfig: ServiceConfig = {
  loadBalancingConfig: [
    {
      [registerAnswerCounting()]: {
        child_policy: [
          {
            outlier_detection: {
              interval: { seconds: 1, nanos: 0 },
              base_ejection_time: { seconds: 30, nanos: 0 },
              max_ejection_time: { seconds: 300, nanos: 0 },
              max_ejection_percent: 50,
              failure_percentage_ejection: { threshold: 70, enforcement_percentage: 100, minimum_hosts: 2, request_volume: 10 },
              child_policy: [{ round_robin: {} }],
            },
          },
        ],
      },
    },
  ],
  methodConfig: [],
};
