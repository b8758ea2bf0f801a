import { create, type DescMessage, type DescService, type Message, toBinary } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import type { Interceptor } from "@connectrpc/connect";
import { invalidRequest } from "../errors.ts";
import { lowerUuids } from "./uuids.ts";

/** Above this size, in bytes, only the first violation is looked for: a large message may hold millions. */
const maxBytesForAll = 16 * 1024;

// For the process: a first use costs 60 ms, the first of each message type up to 9 ms.
const validator = createValidator({ failFast: true });
const validatorForAll = createValidator();

/** Checks every message that comes in against the `buf.validate` rules of its contract, before the handler sees it, with UUIDs in lower case. */
export const validation: Interceptor = (next) => async (req) => {
  if (req.stream) return next({ ...req, message: validated(req.method.input, req.message) });
  assertValid(req.method.input, req.message);
  return next(req);
};

/** Pays the cost of each message type's first validation, so that no call does. */
export function warmValidation(contracts: readonly DescService[]): void {
  for (const { input } of contracts.flatMap((contract) => contract.methods))
    for (const one of [validator, validatorForAll]) one.validate(input, create(input));
}

async function* validated<T extends Message>(schema: DescMessage, messages: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const message of messages) {
    assertValid(schema, message);
    yield message;
  }
}

function assertValid(schema: DescMessage, message: Message): void {
  const { kind, error, violations: [first] = [] } = validator.validate(schema, message);
  if (kind === "valid") {
    lowerUuids(schema, message);
    return;
  }
  if (first === undefined) throw error;
  const isSmall = toBinary(schema, message).length <= maxBytesForAll;
  const violations = (isSmall && validatorForAll.validate(schema, message).violations) || [first];
  throw invalidRequest(
    violations.map(({ field, message: description, ruleId }) => ({ field: pathToString(field), description, reason: ruleId })),
  );
}
