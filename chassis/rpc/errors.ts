import { create, type DescEnum, getOption, hasOption, type MessageInitShape } from "@bufbuild/protobuf";
import type { GenEnum } from "@bufbuild/protobuf/codegenv2";
import { anyPack, durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { CodeSchema } from "@parley/gen/google/rpc/code_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { type Status, StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import { ErrorReason, ErrorReasonSchema } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { reason as reasonOption } from "@parley/gen/parley/options/v1/options_pb.js";

/** The longest message of an error, in characters: it goes into trailers, of which peers take 8 to 16 KiB, and into the log. */
const maxMessageLength = 500;
/** The field violations that an error tells at most. */
const maxViolations = 10;

/** Reasons of what was tried again already, as `<domain>/<reason>`. */
const alreadyRetried = new Set<string>();

/** A further detail of an error, where a program must react to it. */
export type ErrorDetail =
  | { desc: typeof BadRequestSchema; value: MessageInitShape<typeof BadRequestSchema> }
  | { desc: typeof RetryInfoSchema; value: MessageInitShape<typeof RetryInfoSchema> };

/**
 * Makes the error of a reason: its code from the contract, a message that says what was wrong and
 * what to do, and metadata for programs, with lowerCamelCase keys (AIP-193).
 */
export type Fail<Reason> = (reason: Reason, message: string, metadata?: Record<string, string>, ...details: ErrorDetail[]) => ConnectError;

/**
 * Creates the function that makes the errors of an area from its `ErrorReason` enum.
 *
 * Throws where a value of the enum, but for the first, states no gRPC code.
 */
export function createFail<Reason extends number>(schema: GenEnum<Reason>): Fail<Reason> {
  const codes = codesOf(schema);
  const domain = schema.file.proto.package;
  return (reason, message, metadata = {}, ...details) => {
    const entry = codes.get(reason);
    if (entry === undefined) throw new Error(`${schema.typeName} has no reason ${reason}`);
    // ErrorInfo comes first: it is the one detail that every error has.
    const info = { desc: ErrorInfoSchema, value: { reason: entry.name, domain, metadata } };
    return new ConnectError(cut(message, maxMessageLength), entry.code, undefined, [info, ...details]);
  };
}

/** Makes the errors that any method may answer with, which are the chassis's own. */
export const fail: Fail<ErrorReason> = createFail(ErrorReasonSchema);

function codesOf(schema: DescEnum): Map<number, { name: string; code: Code }> {
  const entries = schema.values
    .filter((value) => value.number !== 0)
    .map((value) => {
      if (!hasOption(value, reasonOption)) throw new Error(`${schema.typeName}.${value.name} states no (parley.options.v1.reason).code`);
      // Connect's codes are gRPC's, under the same numbers.
      const { code: codeNumber, alreadyRetried: isRetried } = getOption(value, reasonOption);
      if (isRetried) alreadyRetried.add(`${schema.file.proto.package}/${value.localName}`);
      const code: number = codeNumber;
      return [value.number, { name: value.localName, code: code as Code }] as const;
    });
  return new Map(entries);
}

/** Whether an error's reason says that what failed was tried again already. */
export function wasRetried(error: ConnectError): boolean {
  return error.findDetails(ErrorInfoSchema).some(({ domain, reason }) => alreadyRetried.has(`${domain}/${reason}`));
}

/** Returns how long an error asks to wait before the call is made again, in milliseconds; undefined: it does not say. */
export function retryDelayMsOf(error: ConnectError): number | undefined {
  const [retry] = error.findDetails(RetryInfoSchema);
  return retry?.retryDelay === undefined ? undefined : durationMs(retry.retryDelay);
}

/** Returns the detail that asks to wait so long, in milliseconds. */
export function retryAfter(delayMs: number): ErrorDetail {
  return { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(Math.ceil(delayMs)) } };
}

/** Returns the gRPC name of how a call ended, such as `OK` or `NOT_FOUND`. */
export function statusName(error: ConnectError | undefined): string {
  return CodeSchema.value[error?.code ?? 0]?.name ?? "UNKNOWN";
}

/** Returns the error of a call whose signal has fired: its deadline is over, we are stopping, or its caller left. */
export function errorOfAbort({ reason }: AbortSignal): ConnectError {
  const code = reason instanceof ConnectError ? reason.code : Code.Canceled;
  if (code === Code.DeadlineExceeded) return deadlineOver();
  if (code === Code.Unavailable) return reason; // of our own shutdown
  // Whatever a client gives as its reason, as in RST_STREAM, is no fault of ours.
  return fail(ErrorReason.CANCELLED, "the call was cancelled");
}

/** Returns the error of a call whose deadline is over. */
export function deadlineOver(): ConnectError {
  return fail(ErrorReason.DEADLINE_EXCEEDED, "the call did not end within its deadline");
}

/** Returns an error as it may be shown: an unexpected exception tells nothing of itself. */
export function toConnectError(error: unknown): ConnectError {
  return error instanceof ConnectError ? error : fail(ErrorReason.INTERNAL, "internal error");
}

/** Makes the error of a request that breaks its contract, from the fields' violations, of which it tells the first ten. */
export function invalidRequest(violations: { field: string; description: string; reason: string }[]): ConnectError {
  const fieldViolations = violations
    .slice(0, maxViolations)
    .map(({ field, description, reason }) => ({ field: cut(field, 100), description: cut(description, 200), reason }));
  const text = fieldViolations.map(({ field, description }) => (field === "" ? description : `${field}: ${description}`)).join("; ");
  return fail(ErrorReason.INVALID_REQUEST, text, {}, { desc: BadRequestSchema, value: { fieldViolations } });
}

/** A request's own words may be part of a text, and as long as a request may be. */
function cut(text: string, maxLength: number): string {
  return text.length <= maxLength ? text : `${text.slice(0, maxLength)}…`;
}

/** Returns an error as the message that carries its details. */
export function statusMessageOf(error: ConnectError): Status {
  return create(StatusSchema, {
    code: error.code,
    message: error.rawMessage.toWellFormed(), // half a surrogate pair cannot be sent
    details: error.details.map((detail) =>
      "desc" in detail
        ? anyPack(detail.desc, create(detail.desc, detail.value))
        : { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value },
    ),
  });
}
