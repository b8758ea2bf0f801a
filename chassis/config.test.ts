import { expect, test } from "vitest";
import { bytes, ConfigError, databaseUrl, duration, host, list, oneOf, port, readConfig, target } from "./config.ts";

const schema = {
  PARLEY_PORT: port(8080, "A port"),
  PARLEY_WAIT: duration("15s", "A time"),
  PARLEY_SIZE: bytes(1024, "A size"),
  PARLEY_MODE: oneOf(["on", "off"], "on", "A switch"),
  PARLEY_NAMES: list("Names"),
  PARLEY_HOST: host("127.0.0.1", "A host"),
  PARLEY_DELAY: duration("0s", "A time that may be none"),
  PARLEY_GREETER_TARGET: target("greeter").prefault("dns:///greeter:50051"),
};

test("what is not set, or set to nothing, has its default", () => {
  const defaults = {
    PARLEY_PORT: 8080,
    PARLEY_WAIT: 15_000,
    PARLEY_SIZE: 1024,
    PARLEY_MODE: "on",
    PARLEY_NAMES: [],
    PARLEY_HOST: "127.0.0.1",
    PARLEY_DELAY: 0,
    PARLEY_GREETER_TARGET: "dns:///greeter:50051",
  };
  expect(readConfig(schema, {})).toEqual(defaults);
  expect(readConfig(schema, { PARLEY_PORT: "", PARLEY_HOST: "" })).toEqual(defaults);
});

test.each([
  ["500ms", 500],
  ["15s", 15_000],
  ["5m", 300_000],
  ["2h", 7_200_000],
])("the duration %s is %i ms", (value, ms) => {
  expect(readConfig(schema, { PARLEY_WAIT: value }).PARLEY_WAIT).toBe(ms);
});

test.each([
  { PARLEY_HOST: "::" },
  { PARLEY_HOST: "fe80::1%eth0" },
  { PARLEY_HOST: "localhost" },
  { PARLEY_GREETER_TARGET: "dns:///greeter" },
  { PARLEY_GREETER_TARGET: "dns:///[::1]:50051" },
  { PARLEY_GREETER_TARGET: "dns://10.0.0.53/greeter.shop.svc:50051" },
  { PARLEY_GREETER_TARGET: "ipv4:10.0.0.1:50051,10.0.0.2:50051" },
  { PARLEY_GREETER_TARGET: "ipv6:[2001:db8::1]:50051" },
  { PARLEY_GREETER_TARGET: "unix:/run/greeter.sock" },
])("%o is taken as it is", (env) => {
  expect(readConfig(schema, env)).toMatchObject(env);
});

test("a secret that is wrong is not shown", () => {
  const shape = { PARLEY_ORDERS_DATABASE_URL: databaseUrl("orders") };
  const read = (): unknown => readConfig(shape, { PARLEY_ORDERS_DATABASE_URL: "postgers://u:hunter2@h/d" });
  expect(read).toThrow("PARLEY_ORDERS_DATABASE_URL: its value is wrong; expected a URL such as postgres://");
  expect(read).not.toThrow("hunter2");
});

test("a list is split at commas", () => {
  expect(readConfig(schema, { PARLEY_NAMES: " a, b ,,c" }).PARLEY_NAMES).toEqual(["a", "b", "c"]);
});

test.each([
  { PARLEY_PORT: "0" },
  { PARLEY_PORT: "65536" },
  { PARLEY_PORT: "80a" },
  { PARLEY_PORT: "1e3" },
  { PARLEY_PORT: "-1" },
  { PARLEY_WAIT: "15" },
  { PARLEY_WAIT: "0s" },
  { PARLEY_WAIT: "-1s" },
  { PARLEY_WAIT: "1.5s" },
  { PARLEY_WAIT: "25d" },
  { PARLEY_WAIT: "600h" },
  { PARLEY_SIZE: "4MB" },
  { PARLEY_MODE: "ON" },
  { PARLEY_HOST: "fe80::1" },
  { PARLEY_HOST: "local host" },
  { PARLEY_HOST: "http://localhost" },
  { PARLEY_GREETER_TARGET: "greeter:50051" },
  { PARLEY_GREETER_TARGET: "ipv4:greeter:50051" },
  { PARLEY_GREETER_TARGET: "ipv4:10.0.0.1" },
  { PARLEY_GREETER_TARGET: "ipv4:10.0.0.1:99999" },
  { PARLEY_GREETER_TARGET: "ipv6:[10.0.0.1]:50051" },
  { PARLEY_GREETER_TARGET: "dns:///greeter:99999" },
  { PARLEY_GREETER_TARGET: "dns:///a:b:c" },
])("%o is told with the variable, its value and what is expected", (env) => {
  const [[name, value]] = Object.entries(env) as [[string, string]];
  const read = (): unknown => readConfig(schema, env);
  expect(read).toThrow(ConfigError);
  expect(read).toThrow(`${name}: "${value}" is wrong; expected `);
});
