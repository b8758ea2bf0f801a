import { type DescMethod, type DescService, getOption, hasOption } from "@bufbuild/protobuf";
import { durationMs, MethodOptions_IdempotencyLevel as IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Access, access, Criticality, criticality, deadline, hedge_after as hedgeAfter } from "@parley/gen/parley/options/v1/options_pb.js";
import { StartError } from "../start-error.ts";

/** What a unary method may take where its contract states nothing, in milliseconds. */
const defaultDeadlineMs = 10_000;

/** Returns who may call the method; none: it is not stated. Methods of contracts other than ours, such as health and reflection, are public. */
export const accessOf: (method: DescMethod) => readonly Access[] = once((method) =>
  isOurs(method.parent) ? getOption(method, access) : [Access.PUBLIC],
);

/** Throws StartError, naming each method whose contract states no access. */
export function assertAccessStated(contracts: readonly DescService[]): void {
  const missing = methodsOf(contracts, (method) => accessOf(method).length === 0 || accessOf(method).includes(Access.UNSPECIFIED));
  if (missing !== "") throw new StartError(`no access stated for ${missing}: add option (parley.options.v1.access) to the contract`);
}

/** Throws StartError, naming each method that is to be hedged and may not be: it has side effects, or is a stream. */
export function assertHedging(contracts: readonly DescService[]): void {
  const wrong = methodsOf(
    contracts,
    (method) =>
      hedgeAfterMsOf(method) !== undefined && (method.idempotency !== IdempotencyLevel.NO_SIDE_EFFECTS || method.methodKind !== "unary"),
  );
  if (wrong !== "")
    throw new StartError(`${wrong} cannot have (parley.options.v1.hedge_after): it is for unary methods with NO_SIDE_EFFECTS`);
}

function methodsOf(contracts: readonly DescService[], isMeant: (method: DescMethod) => boolean): string {
  const methods = contracts.flatMap((contract) => contract.methods).filter(isMeant);
  return methods.map(({ parent, name }) => `${parent.typeName}.${name}`).join(", ");
}

/** Returns how long a call of the method may take, in milliseconds; undefined: as long as its connection, as those of contracts other than ours. */
export const deadlineMsOf: (method: DescMethod) => number | undefined = once((method) => {
  if (hasOption(method, deadline)) return durationMs(getOption(method, deadline));
  return method.methodKind === "unary" && isOurs(method.parent) ? defaultDeadlineMs : undefined;
});

/** Returns how much depends on a call of the method. Contracts other than ours, such as health and reflection, are critical: operators need them most then. */
export const criticalityOf: (method: DescMethod) => Criticality = once((method) => {
  if (!isOurs(method.parent)) return Criticality.CRITICAL;
  return getOption(method, criticality) || Criticality.DEFAULT;
});

/** Returns after how long without an answer a call of the method is sent a second time, in milliseconds; undefined: never. */
export const hedgeAfterMsOf: (method: DescMethod) => number | undefined = once((method) =>
  hasOption(method, hedgeAfter) ? durationMs(getOption(method, hedgeAfter)) : undefined,
);

/** Returns the method's name as logs, metrics and traces have it (OpenTelemetry's `rpc.method`): `parley.orders.v1.OrdersService/PlaceOrder`. */
export const methodName: (method: DescMethod) => string = once((method) => `${method.parent.typeName}/${method.name}`);

/** Whether a call of the method may be sent twice. */
export function isIdempotent(method: DescMethod): boolean {
  return method.idempotency !== IdempotencyLevel.IDEMPOTENCY_UNKNOWN;
}

/** Whether the contract is one of the suite's own. */
export function isOurs(contract: DescService): boolean {
  return contract.typeName.startsWith("parley.");
}

/** Returns the name of the service that serves the contract: `greeter` for those of the package `parley.greeter.v1`. */
export function serviceNameOf(contract: DescService): string {
  const [, name] = /^parley\.([a-z]\w*)\.v\d+$/.exec(contract.file.proto.package) ?? [];
  if (name === undefined) throw new Error(`${contract.typeName} is not in a package parley.<service>.v1`);
  return name.replaceAll("_", "-");
}

/** Reads an option once for each method: it takes 5 µs, because options are kept as bytes. */
function once<T>(read: (method: DescMethod) => T): (method: DescMethod) => T {
  const known = new WeakMap<DescMethod, { value: T }>();
  return (method) => {
    const entry = known.get(method) ?? { value: read(method) };
    known.set(method, entry);
    return entry.value;
  };
}
