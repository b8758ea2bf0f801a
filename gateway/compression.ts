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
