import { promisify } from "node:util";
import { brotliCompress, constants } from "node:zlib";
import type { Compression } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";

/** Of 11, which is Node's default and takes hundreds of times as long, for a page that is made once. */
const brotliQuality = 4;
const compressBrotli = promisify(brotliCompress);

/** What clients may use for requests, and ask for in answers. What is decompressed has a limit: whoever reads gives it. */
export const compressions: Compression[] = [
  compressionGzip,
  {
    ...compressionBrotli,
    compress: async (bytes) => new Uint8Array(await compressBrotli(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: brotliQuality } })),
  },
];

/** What is smaller is not compressed: little is gained, and it fits into a packet. */
export const compressMinBytes = 1_024;

/** Returns how an answer is to be compressed, by the request's header `accept-encoding`; undefined: not at all. */
export function answerCompression(header: Headers): Compression | undefined {
  const accepted = (header.get("accept-encoding") ?? "").split(",").map((part) => part.split(";").map((text) => text.trim().toLowerCase()));
  return accepted.flatMap(([name, quality]) => (quality === "q=0" ? [] : compressions.filter((one) => one.name === name)))[0];
}
