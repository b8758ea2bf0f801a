import { BlockList, isIP, type Socket } from "node:net";
import type { NodeRequest } from "./node-request.ts";

/** Whose a request is, as far as addresses tell. */
export interface ClientAddresses {
  /** Returns who is at the other end of a connection. */
  peerOf(socket: Pick<Socket, "remoteAddress">): string;
  /** Whether an address is that of a proxy that is trusted. */
  isProxy(address: string): boolean;
  /** Returns the client's address, behind proxies that are trusted too. */
  clientOf(request: NodeRequest): string;
}

interface AddressRange {
  readonly address: string;
  readonly bits: number;
  readonly family: "ipv4" | "ipv6";
}

/** Whether a text is an address, or a range such as `10.0.0.0/8`. */
export function isAddressRange(text: string): boolean {
  return findAddressRange(text) !== undefined;
}

function findAddressRange(text: string): AddressRange | undefined {
  const [, address = "", bits] = /^([^/%]+)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text) ?? [];
  const most = { 0: 0, 4: 32, 6: 128 }[isIP(address)] ?? 0;
  if (most === 0 || Number(bits ?? 0) > most) return undefined;
  return { address, bits: Number(bits ?? most), family: most === 32 ? "ipv4" : "ipv6" };
}

/**
 * Creates what finds clients behind proxies at the addresses or ranges given. Each proxy adds whom it
 * got a request from to `x-forwarded-for`, at the end: the client is the last one there that is no
 * proxy itself. From anybody else the header counts for nothing, and it could say anything.
 */
export function createClientAddresses(proxies: readonly string[]): ClientAddresses {
  const trusted = new BlockList();
  for (const { address, bits, family } of proxies.flatMap((proxy) => findAddressRange(proxy) ?? []))
    trusted.addSubnet(address, bits, family);
  const isProxy = (address: string): boolean => isIP(address) !== 0 && trusted.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
  const peerOf = ({ remoteAddress }: Pick<Socket, "remoteAddress">): string => plain(remoteAddress ?? "");
  return {
    peerOf,
    isProxy,
    clientOf(request) {
      const peer = peerOf(request.socket);
      if (!isProxy(peer)) return peer;
      const header = request.headers["x-forwarded-for"];
      const forwarded = (typeof header === "string" ? header : (header ?? []).join(","))
        .split(",")
        .map((text) => plain(withoutPort(text.trim())));
      // What is no address nobody can vouch for.
      const client = forwarded.findLast((address) => !isProxy(address));
      return client === undefined || isIP(client) === 0 ? peer : client;
    },
  };
}

/**
 * Returns what a client is counted by: its address, or of IPv6 the first 64 bits, which are one
 * household's or one machine's, who has the others for the taking (RFC 6177).
 */
export function clientKeyOf(address: string): string {
  if (isIP(address) !== 6) return address;
  const [head = "", tail = ""] = (address.split("%", 1)[0] ?? "").split("::");
  const [first, last] = [head, tail].map((groups) => (groups === "" ? [] : groups.split(":")));
  if (first === undefined || last === undefined) return address;
  const zeros = Array.from({ length: Math.max(0, 8 - first.length - last.length) }, () => "0");
  return [...first, ...zeros, ...last]
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}

/** Some proxies add the client's port. */
function withoutPort(text: string): string {
  const [, v6, v4] = /^(?:\[([^\]]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+)$/.exec(text) ?? [];
  return v6 ?? v4 ?? text;
}

/** A port for IPv6 that takes IPv4 too sees its addresses as IPv6, of which there are two spellings (RFC 4291, section 2.5.5.2). */
function plain(address: string): string {
  if (isIP(address) !== 6 || address.includes("%")) return address;
  const { hostname } = new URL(`http://[${address}]`); // in its canonical form
  const [, high, low] = /^\[::ffff:([\da-f]{1,4}):([\da-f]{1,4})\]$/.exec(hostname) ?? [];
  if (high === undefined || low === undefined) return address;
  const bytes = [high, low].map((group) => Number.parseInt(group, 16)).flatMap((group) => [group >> 8, group & 255]);
  return bytes.join(".");
}
