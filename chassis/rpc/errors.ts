import { type DescEnum, getOption, hasOption, type MessageInitShape } from "@bufbuild/protobuf";
import type { GenEnum } from "@bufbuild/protobuf/codegenv2";
import { type Code, ConnectError } from "@connectrpc/connect";
import { CodeSchema } from "@parley/gen/google/rpc/code_pb.js";
import { BadRequestSchema, ErrorInfoSchema, type RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { ErrorReason, ErrorReasonSchema } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { reason as reasonOption } from "@parley/gen/parley/options/v1/options_pb.js";

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
    return new ConnectError(message, entry.code, undefined, [info, ...details]);
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
      const code: number = getOption(value, reasonOption).code;
      return [value.number, { name: value.localName, code: code as Code }] as const;
    });
  return new Map(entries);
}

/** Returns the gRPC name of how a call ended, such as `OK` or `NOT_FOUND`. */
export function statusName(error: ConnectError | undefined): string {
  return CodeSchema.value[error?.code ?? 0]?.name ?? "UNKNOWN";
}

/** Makes the error of a call that did not end in time. */
export function deadlineExceeded(): ConnectError {
  return fail(ErrorReason.DEADLINE_EXCEEDED, "the call did not end within its deadline");
}

/** Makes the error of a request that breaks its contract, from each field's violation. */
export function invalidRequest(fieldViolations: { field: string; description: string; reason: string }[]): ConnectError {
  const text = fieldViolations.map(({ field, description }) => (field === "" ? description : `${field}: ${description}`)).join("; ");
  return fail(ErrorReason.INVALID_REQUEST, text, {}, { desc: BadRequestSchema, value: { fieldViolations } });
}
