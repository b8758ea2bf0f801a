import type { DescService } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import type { ServiceToken } from "../auth/service-token.ts";
import { type CommonConfig, type ConfigShape, readConfig, target, variableOf } from "../config.ts";
import { StartError } from "../start-error.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { TlsFiles } from "../tls-files.ts";
import { openTransport } from "./transport.ts";

/** The services that a component calls, by their names, each with the contracts that it calls there. */
export type Neighbours = Readonly<Record<string, readonly DescService[]>>;

/** The transports to a component's neighbours, one for each. */
export interface Transports {
  /** Throws where the component does not list the service among its neighbours. */
  get(serviceName: string): Transport;
  close(): void;
}

/** The variables that say where the services are found. */
export function targetsConfig(serviceNames: readonly string[]): ConfigShape {
  return Object.fromEntries(serviceNames.map((name) => [variableOf(name, "TARGET"), target(name)]));
}

/** Returns where services that listen on this machine are found, as those variables; one with replicas is there several times. */
export function localTargets(places: readonly { readonly name: string; readonly port: number }[], host: string): NodeJS.ProcessEnv {
  const address = localAddress(host);
  const addresses = new Map<string, string[]>();
  for (const { name, port } of places) addresses.set(name, [...(addresses.get(name) ?? []), `${address}:${port}`]);
  const scheme = address.startsWith("[") ? "ipv6" : "ipv4"; // as a list of addresses; names have none
  return Object.fromEntries(
    [...addresses].map(([name, all]) => [variableOf(name, "TARGET"), all.length === 1 ? `dns:///${all[0]}` : `${scheme}:${all.join(",")}`]),
  );
}

/** Returns the address at which this machine reaches what listens on a host, as URLs and targets have it. */
export function localAddress(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host === "::") return "[::1]";
  return host.includes(":") ? `[${host}]` : host;
}

/** Opens a transport to each neighbour. */
export function openTransports(
  neighbours: Neighbours,
  {
    env,
    common,
    telemetry,
    tls,
    serviceToken,
    withoutRetries = [],
  }: {
    env: NodeJS.ProcessEnv;
    common: CommonConfig;
    telemetry: Telemetry;
    tls?: TlsFiles | undefined;
    serviceToken?: ServiceToken;
    withoutRetries?: readonly string[];
  },
): Transports {
  const unknown = withoutRetries.find((name) => !(name in neighbours));
  if (unknown !== undefined) throw new StartError(`${unknown} is to be called without retries, but is not among the neighbours`);
  const transports = new Map(
    Object.entries(neighbours).map(([name, contracts]) => [
      name,
      openTransport({
        target: readConfig({ target: target(name) }, { target: env[variableOf(name, "TARGET")] }).target,
        contracts,
        peerName: name,
        telemetry,
        serviceToken,
        retries: !withoutRetries.includes(name),
        maxMessageBytes: common.PARLEY_MAX_MESSAGE_BYTES,
        tls,
      }),
    ]),
  );
  return {
    get(serviceName) {
      const transport = transports.get(serviceName);
      if (transport === undefined)
        throw new StartError(`${serviceName} is called, but is not among the neighbours of the service that calls it`);
      return transport;
    },
    close() {
      for (const transport of transports.values()) transport.close();
    },
  };
}
