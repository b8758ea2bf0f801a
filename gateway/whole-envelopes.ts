/** What precedes each message: a byte of flags and its length in 4 bytes (gRPC over HTTP/2, Length-Prefixed-Message; Connect's streams have the same). */
const headBytes = 5;

/**
 * Joins the chunks of a body so that each message arrives in one piece. Connect's decoder copies
 * what it has of a message with each chunk: a message in 100,000 chunks takes it seconds. One that is
 * longer than `maxBytes` goes on as it comes, for the decoder to refuse.
 */
export async function* wholeEnvelopes(body: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Uint8Array> {
  let chunks: Uint8Array[] = [];
  let have = 0;
  let need = headBytes;
  for await (const chunk of body) {
    chunks.push(chunk);
    have += chunk.byteLength;
    if (have < need) continue;
    const joined = Buffer.concat(chunks);
    let end = 0; // of the messages that are here
    for (need = headBytes; have - end >= need; ) {
      const length = joined.readUInt32BE(end + 1);
      need = headBytes + length;
      if (length > maxBytes) end = have;
      else if (have - end >= need) {
        end += need;
        need = headBytes;
      }
    }
    if (end > 0) yield joined.subarray(0, end);
    chunks = end < have ? [joined.subarray(end)] : [];
    have -= end;
  }
  if (have > 0) yield Buffer.concat(chunks);
}
