import { grpcFrame } from "@parley/chassis/testing/raw-grpc.ts";
import { expect, test } from "vitest";
import { wholeEnvelopes } from "./whole-envelopes.ts";

const frames = [10, 0, 3000, 1, 0, 70_000].map((size) => grpcFrame(Buffer.alloc(size, size)));
const bytes = Buffer.concat(frames);

async function* chunksOf(size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

test.each([1, 2, 4, 5, 6, 7, 1_000, 80_000])("messages that come in chunks of %i bytes leave whole", async (size) => {
  const pieces = await Array.fromAsync(wholeEnvelopes(chunksOf(size), 100_000));
  expect(Buffer.concat(pieces)).toEqual(bytes);
  const ends = frames.map((_, index) => Buffer.concat(frames.slice(0, index + 1)).length);
  let at = 0;
  for (const { length } of pieces) {
    at += length;
    expect(ends).toContain(at);
  }
});

test("what is cut off, or too long, goes on as it came, for the decoder to refuse", async () => {
  async function* body(): AsyncGenerator<Uint8Array> {
    yield grpcFrame(Buffer.alloc(3), { length: 9 });
  }
  expect((await Array.fromAsync(wholeEnvelopes(body(), 100)))[0]).toHaveLength(8);
  expect((await wholeEnvelopes(body(), 8).next()).value).toHaveLength(8);
});
