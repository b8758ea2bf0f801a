import { isIP } from "node:net";
import { z } from "zod";
import { StartError } from "./start-error.ts";

/** The variables of one part of a process, by their `PARLEY_*` names. Each is made by a function below, which describes it. */
export type ConfigShape = Readonly<Record<string, z.ZodType>>;
/** What a shape's variables are read as. */
export type Config<Shape extends ConfigShape> = z.output<z.ZodObject<Shape>>;

/** What every process reads, whichever services run in it. */
export const commonConfig = {
  PARLEY_HOST: host("127.0.0.1", "Address that all ports listen on; 0.0.0.0 for every interface"),
  PARLEY_GRPC_BASE_PORT: port(50051, "gRPC port of the process's first service; the others follow, in order"),
  PARLEY_ADMIN_BASE_PORT: port(9090, "Admin port of the process: /livez, /readyz, /healthz and /metrics"),
  PARLEY_LOG_LEVEL: oneOf(["trace", "debug", "info", "warn", "error", "silent"], "info", "Least severe level that is logged"),
  PARLEY_LOG_DIR: optionalFile(
    "Folder in which log lines are kept too, 32 MB at most of each process",
    "npm start: logs in PARLEY_DATA_DIR",
  ),
  PARLEY_DRAIN_TIMEOUT: duration("15s", "Time that calls in progress have to finish after SIGTERM"),
  PARLEY_DRAIN_DELAY: duration("0s", "Time between not ready and taking no more calls, for load balancers to notice"),
  PARLEY_REFLECTION: oneOf(["on", "off"], "on", "Whether services describe themselves to grpcurl and others by gRPC reflection"),
  PARLEY_MAX_MESSAGE_BYTES: bytes(4 * 1024 * 1024, "Largest message that a service or the gateway receives"),
  PARLEY_DATA_DIR: text(".parley", "Folder of what is made on this machine: the embedded Postgres, and the keys of tokens"),
  PARLEY_TLS_DIR: optionalFile(
    "Folder with tls.crt, tls.key and ca.crt, as cert-manager's Secrets have them, for mutual TLS between services and gateway",
    "without TLS",
  ),
  PARLEY_CONNECTION_AGE: duration("5m", "Age at which a gRPC connection is closed, so that clients find new replicas; varies by 10 %"),
  PARLEY_CONNECTION_AGE_GRACE: duration("30s", "Time that calls have to finish on a connection that reached its age"),
} satisfies ConfigShape;
export type CommonConfig = Config<typeof commonConfig>;

/** Thrown by readConfig: one line for each variable that is wrong. */
export class ConfigError extends StartError {
  override name = "ConfigError";
}

/** Reads a shape's variables from the environment; one that is set to nothing counts as not set. Throws ConfigError. */
export function readConfig<Shape extends ConfigShape>(shape: Shape, env: NodeJS.ProcessEnv): Config<Shape> {
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
  const result = z.object(shape).safeParse(set);
  if (result.success) return result.data;
  throw new ConfigError(
    result.error.issues
      .map(({ path, message }) => {
        const name = String(path[0]);
        const value = set[name];
        const shown = shape[name]?.meta()?.["secret"] === true ? "its value" : `"${value}"`;
        return `${name}: ${value === undefined ? "is not set" : `${shown} is wrong`}; expected ${message}`;
      })
      .join("\n"),
  );
}

/** A TCP port. */
export function port(byDefault: number, description: string): z.ZodType<number> {
  return number(1, 65_535, "a port, 1 to 65535").prefault(String(byDefault)).meta({ description, unit: "port" });
}

/** Returns the port of what stands at an index of those that follow a variable's. Throws ConfigError where there is none left. */
export function portAt(base: number, index: number, variable: keyof CommonConfig): number {
  if (base + index <= 65_535) return base + index;
  throw new ConfigError(`${variable}: "${base}" is too high: ${index} more ports follow it, up to 65535`);
}

/** A number of bytes. */
export function bytes(byDefault: number, description: string): z.ZodType<number> {
  return number(1, 2 ** 31 - 1, "a number of bytes, 1 to 2147483647")
    .prefault(String(byDefault))
    .meta({ description, unit: "bytes" });
}

/** A number of things; 0 only where it is the default. */
export function count(byDefault: number, description: string): z.ZodType<number> {
  const atLeast = byDefault === 0 ? 0 : 1;
  return number(atLeast, 1_000_000, `a whole number, ${atLeast} to 1000000`)
    .prefault(String(byDefault))
    .meta({ description, unit: "count" });
}

/**
 * A duration such as `500ms`, `15s` or `5m`; read as milliseconds. `0s` only where it is the default:
 * a limit of 0 lets nothing through. At most 24 days, above which setTimeout fires at once, or less.
 */
export function duration(byDefault: string, description: string, { atMost = "576h" } = {}): z.ZodType<number> {
  const atLeastMs = byDefault === "0s" ? 0 : 1;
  const shownMost = atMost === "576h" ? "24 days" : atMost;
  const expected = `a duration such as 500ms, 15s or 5m, ${atLeastMs === 0 ? "" : "more than 0 and "}at most ${shownMost}`;
  const schema = z.string().transform((value, context) => {
    const ms = msOf(value);
    if (ms >= atLeastMs && ms <= msOf(atMost)) return ms;
    context.addIssue({ code: "custom", message: expected });
    return z.NEVER;
  });
  return schema.prefault(byDefault).meta({ description, unit: "duration" });
}

function msOf(duration: string): number {
  const [, amount, unit] = /^(\d{1,9})(ms|s|m|h)$/.exec(duration) ?? [];
  return Number(amount) * ({ ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[unit ?? ""] ?? Number.NaN);
}

/** Any text. */
export function text(byDefault: string, description: string): z.ZodDefault<z.ZodString> {
  return z.string().default(byDefault).meta({ description, unit: "text" });
}

/** A name or address of this machine; a link-local IPv6 address needs its interface, as in `fe80::1%eth0`. */
export function host(byDefault: string, description: string): z.ZodType<string> {
  const expected = "a host name or an IP address, a link-local one with its interface, such as fe80::1%eth0";
  const isHost = (value: string): boolean =>
    isIP(value) !== 0 ? !/^fe80:[^%]*$/i.test(value) : /^[a-z\d]([a-z\d.-]*[a-z\d])?$/i.test(value);
  return z.string().refine(isHost, expected).default(byDefault).meta({ description, unit: "host" });
}

/** A file's path, which may be left out; `otherwise` says what happens then. */
export function optionalFile(description: string, otherwise: string): z.ZodType<string | undefined> {
  return z.string().optional().meta({ description, unit: "file", shownDefault: otherwise });
}

/** One of a few words. */
export function oneOf<const Word extends string>(words: readonly Word[], byDefault: NoInfer<Word>, description: string): z.ZodType<Word> {
  return z
    .enum(words, { error: words.join(", ").replace(/, ([^,]*)$/, " or $1") })
    .prefault(byDefault)
    .meta({ description, unit: words.join(" | ") });
}

/** A list separated by commas, each entry without the spaces around it. */
export function list(description: string, entry: z.ZodType<string, string> = z.string()): z.ZodType<string[]> {
  return z
    .string()
    .default("")
    .transform((value) =>
      value
        .split(",")
        .map((part) => part.trim())
        .filter((part) => part !== ""),
    )
    .pipe(z.array(entry))
    .meta({ description, unit: "list" });
}

/** Returns the name of a service's variable: `PARLEY_ORDERS_TARGET` of `orders` and `TARGET`. */
export function variableOf(serviceName: string, what: "DATABASE_URL" | "KEY_FILE" | "TARGET"): string {
  return `PARLEY_${serviceName.toUpperCase().replaceAll("-", "_")}_${what}`;
}

/** The URL of a service's database on a Postgres server of one's own; not set: an embedded one. Never shown: it holds a password. */
export function databaseUrl(serviceName: string): z.ZodType<string | undefined> {
  return z
    .string()
    .regex(/^postgres(ql)?:\/\/\S+$/, "a URL such as postgres://user:password@host/database?sslmode=verify-full")
    .optional()
    .meta({ description: `Database of ${serviceName}, on a Postgres 18 of yours`, unit: "URL", shownDefault: "embedded", secret: true });
}

/** A URL of one of these protocols, which may be left out; `otherwise` says what happens then. A secret one is never shown. */
export function optionalUrl(options: {
  readonly protocols: readonly string[];
  readonly description: string;
  readonly otherwise: string;
  readonly secret?: boolean;
}): z.ZodType<string | undefined> {
  const { protocols, description, otherwise, secret = false } = options;
  const expected = `a URL of ${protocols.map((protocol) => `${protocol}:`).join(" or ")}`;
  return z
    .string()
    .refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol.slice(0, -1)), expected)
    .optional()
    .meta({ description, unit: "URL", shownDefault: otherwise, secret });
}

/** The file of a service's private key; not set: one that is made on the laptop. */
export function keyFile(serviceName: string): z.ZodType<string | undefined> {
  const description = `File of the private key of ${serviceName}, a JWK, which signs its own tokens`;
  return optionalFile(description, "made in PARLEY_DATA_DIR");
}

/** Where a service listens, as gRPC names targets: `dns:///greeter:50051`, `ipv4:10.0.0.1:50051,10.0.0.2:50051`. */
export function target(serviceName: string): z.ZodType<string> {
  const expected = `a gRPC target such as dns:///${serviceName}:50051`;
  return z
    .string({ error: expected })
    .refine(isTarget, expected)
    .meta({ description: `Where ${serviceName} listens`, unit: "gRPC target" });
}

/** The forms of gRPC's naming.md: a name, with a port or without, a list of addresses, or a socket's path. */
function isTarget(text: string): boolean {
  const [, scheme, rest = ""] = /^(dns|ipv4|ipv6|unix):(\S+)$/.exec(text) ?? [];
  const isPort = (port = ""): boolean => port === "" || (Number(port) >= 1 && Number(port) <= 65_535);
  const isAddress = (address: string, version: 4 | 6): boolean => {
    const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address) ?? [];
    return isIP(bracketed ?? plain ?? "") === version && isPort(port);
  };
  switch (scheme) {
    case "unix":
      return true;
    case "ipv4":
      return rest.split(",").every((address) => isAddress(address, 4));
    case "ipv6":
      return rest.split(",").every((address) => isAddress(address, 6));
    case "dns": {
      const [, port] = /^(?:\/\/[^/]*\/)?(?:\[[\da-f:.%]+\]|[^:/[\]]+)(?::(\d{1,5}))?$/i.exec(rest) ?? [undefined, "0"];
      return isPort(port);
    }
    default:
      return false;
  }
}

function number(min: number, max: number, error: string): z.ZodType<number, string> {
  return z
    .string()
    .regex(/^\d{1,10}$/, error)
    .transform(Number)
    .pipe(z.number().min(min, error).max(max, error));
}
