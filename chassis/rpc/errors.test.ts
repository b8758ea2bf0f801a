import { Code } from "@connectrpc/connect";
import { CodeSchema } from "@parley/gen/google/rpc/code_pb.js";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { ErrorReason, ErrorReasonSchema } from "@parley/gen/parley/testing/v1/testing_pb.js";
import { expect, test } from "vitest";
import { createFail, statusName } from "./errors.ts";

test("a failure has the code of its reason in the contract, and tells reason and domain", () => {
  const error = createFail(ErrorReasonSchema)(ErrorReason.AS_ASKED, "as asked; ask for something else", { orderId: "1" });
  expect(error).toMatchObject({ code: Code.FailedPrecondition, rawMessage: "as asked; ask for something else" });
  expect(error.details).toMatchObject([
    { desc: ErrorInfoSchema, value: { reason: "AS_ASKED", domain: "parley.testing.v1", metadata: { orderId: "1" } } },
  ]);
});

test("a request's own words make an error no longer than peers take", () => {
  const error = createFail(ErrorReasonSchema)(ErrorReason.AS_ASKED, `there is no ${"x".repeat(100_000)}`);
  expect(error.rawMessage).toMatch(/^there is no x+…$/);
  expect(error.rawMessage.length).toBe(501);
});

test("an enum whose values state no code is refused when it is bound", () => {
  expect(() => createFail(CodeSchema)).toThrow("google.rpc.Code.CANCELLED states no (parley.options.v1.reason).code");
});

test("a reason that the contract does not have is a mistake in the code", () => {
  expect(() => createFail(ErrorReasonSchema)(ErrorReason.UNSPECIFIED, "nothing")).toThrow("has no reason 0");
});

test("codes go by the names of gRPC", () => {
  expect(statusName(undefined)).toBe("OK");
  expect(statusName(createFail(ErrorReasonSchema)(ErrorReason.AS_ASKED, ""))).toBe("FAILED_PRECONDITION");
});
