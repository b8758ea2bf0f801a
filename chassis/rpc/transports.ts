import type { DescService } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import type { Registry } from "prom-client";
import { z } from "zod";
import { type ConfigSchema, type ProcessConfig, readConfig } from "../config.ts";
import { clientInterceptors } from "./interceptors/all.ts";
import { openTransport } from "./transport.ts";

/** The transports to the services that a component calls, one for each. */
export interface Transports {
  /** Throws where the component does not list the service among those it calls. */
  get(serviceName: string): Transport;
  close(): void;
}

/** The variable that says where a service is found. */
export function targetVariable(serviceName: string): string {
  return `PARLEY_${serviceName.toUpperCase().replaceAll("-", "_")}_TARGET`;
}

/** The variables that say where the services are found. */
export function targetsConfig(serviceNames: readonly string[]): ConfigSchema {
  return z.object(
    Object.fromEntries(
      serviceNames.map((name) => {
        const expected = `a gRPC target such as dns:///${name}:50051`;
        const target = z.string({ error: expected }).regex(/^(dns|ipv4|ipv6|unix):\S+$/, expected);
        return [targetVariable(name), target.meta({ description: `Where ${name} listens`, unit: "gRPC target" })];
      }),
    ),
  );
}

/** Opens a transport to each service, given with the contracts that are called there. */
export function openTransports(
  services: ReadonlyMap<string, readonly DescService[]>,
  { env, process, registry }: { env: NodeJS.ProcessEnv; process: ProcessConfig; registry: Registry },
): Transports {
  const targets = readConfig(targetsConfig([...services.keys()]), env);
  const transports = new Map(
    [...services].map(([name, contracts]) => [
      name,
      openTransport({
        target: z.string().parse(targets[targetVariable(name)]),
        contracts,
        interceptors: clientInterceptors({ registry }),
        maxMessageBytes: process.PARLEY_MAX_MESSAGE_BYTES,
      }),
    ]),
  );
  return {
    get(serviceName) {
      const transport = transports.get(serviceName);
      if (transport === undefined) throw new Error(`${serviceName} is not among the neighbours: add its contract there`);
      return transport;
    },
    close() {
      for (const transport of transports.values()) transport.close();
    },
  };
}
