import { expect, test } from "vitest";
import { clientKeyOf, createClientAddresses, isAddressRange } from "./client-address.ts";
import type { NodeRequest } from "./node-request.ts";

const proxies = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"];

function requestFrom(remoteAddress: string, forwarded?: string): NodeRequest {
  return { socket: { remoteAddress }, headers: forwarded === undefined ? {} : { "x-forwarded-for": forwarded } } as NodeRequest;
}

test.each([
  ["198.51.100.7", undefined, "198.51.100.7"],
  ["198.51.100.7", "203.0.113.1", "198.51.100.7"],
  ["10.1.2.3", "203.0.113.1", "203.0.113.1"],
  ["10.1.2.3", undefined, "10.1.2.3"],
  ["10.1.2.3", "203.0.113.1, 10.9.9.9, 192.0.2.1", "203.0.113.1"],
  ["10.1.2.3", "127.0.0.1, 203.0.113.1", "203.0.113.1"],
  ["10.1.2.3", "10.9.9.9", "10.1.2.3"],
  ["10.1.2.3", "203.0.113.1, unknown", "10.1.2.3"],
  ["10.1.2.3", "", "10.1.2.3"],
  ["::ffff:10.1.2.3", "::ffff:203.0.113.1", "203.0.113.1"],
  ["::ffff:198.51.100.7", undefined, "198.51.100.7"],
  ["10.1.2.3", "::FFFF:cb00:7101", "203.0.113.1"],
  ["10.1.2.3", "203.0.113.1:1234", "203.0.113.1"],
  ["10.1.2.3", "[2001:db9::1]:80", "2001:db9::1"],
  ["2001:db8::1", "2001:db9::1", "2001:db9::1"],
  ["2001:db9::2", "2001:db9::1", "2001:db9::2"],
  ["192.0.2.2", "203.0.113.1", "192.0.2.2"],
])("a request from %s with x-forwarded-for %j is that of %s", (peer, forwarded, client) => {
  expect(createClientAddresses(proxies).clientOf(requestFrom(peer, forwarded))).toBe(client);
});

test("where no proxy is trusted, nobody's x-forwarded-for is", () => {
  expect(createClientAddresses([]).clientOf(requestFrom("127.0.0.1", "203.0.113.1"))).toBe("127.0.0.1");
});

test.each([
  ["203.0.113.1", "203.0.113.1"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
  ["2001:db8:1:2::9", "2001:db8:1:2"],
  ["2001:0db8:1::", "2001:db8:1:0"],
  ["::1", "0:0:0:0"],
  ["fe80::1%eth0", "fe80:0:0:0"],
  ["", ""],
])("%s is counted as %s", (address, key) => {
  expect(clientKeyOf(address)).toBe(key);
});

test.each([
  ["10.0.0.0/8", true],
  ["10.0.0.1", true],
  ["2001:db8::/32", true],
  ["10.0.0.0/33", false],
  ["2001:db8::/129", false],
  ["10.0.0.0/", false],
  ["10.0.0.0/8/9", false],
  ["10.0.0.0/08", false],
  ["fe80::%eth0/10", false],
  ["proxy.example", false],
  ["*", false],
])("%s is a range of addresses: %s", (text, expected) => {
  expect(isAddressRange(text)).toBe(expected);
});
