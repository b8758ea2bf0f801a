import { Code, ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { expect, test } from "vitest";
import { failureOf } from "../../testing/failure.ts";
import { openTestChain } from "../../testing/rpc.ts";

test("a request that cannot be encoded is the caller's fault, and says so in the log only", async () => {
  const { client, server } = await openTestChain(
    (b) => b.echo({ numbers: [1.5] }),
    () => ({}),
  );
  expect(await failureOf(client.echo({}))).toMatchObject({ code: Code.Internal, rawMessage: expect.stringMatching(/^internal error/) });
  expect(JSON.stringify(server.logs)).toContain("1.5");
});

test.each([
  { code: Code.Canceled, becomes: Code.Canceled },
  { code: Code.DeadlineExceeded, becomes: Code.DeadlineExceeded },
  { code: Code.Unavailable, becomes: Code.Unavailable },
  { code: Code.NotFound, becomes: Code.Internal },
  { code: Code.InvalidArgument, becomes: Code.Internal },
  { code: Code.PermissionDenied, becomes: Code.Internal },
  { code: Code.Internal, becomes: Code.Internal },
  { code: Code.ResourceExhausted, becomes: Code.Internal },
])("a neighbour's code $code that nobody answered becomes $becomes, without its words", async ({ code, becomes }) => {
  const { client } = await openTestChain(
    (b) => b.echo({}),
    () => {
      throw new ConnectError("the neighbour's secret", code, { "x-secret": "1" });
    },
  );
  const error = await failureOf(client.echo({}));
  expect(error.code).toBe(becomes);
  expect(error.rawMessage).not.toContain("secret");
  expect(error.metadata.has("x-secret")).toBe(false);
});

test("a neighbour that is too busy makes its caller UNAVAILABLE, with the same delay", async () => {
  const { client } = await openTestChain(
    (b) => b.echo({}),
    () => {
      throw new ConnectError("busy", Code.ResourceExhausted, undefined, [
        { desc: RetryInfoSchema, value: { retryDelay: { seconds: 7n } } },
      ]);
    },
  );
  const error = await failureOf(client.echo({}));
  expect(error.code).toBe(Code.Unavailable);
  expect(error.findDetails(RetryInfoSchema)).toMatchObject([{ retryDelay: { seconds: 7n } }]);
});
