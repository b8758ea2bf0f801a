import { promisify } from "node:util";
import { brotliCompress, constants } from "node:zlib";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";

/** Of 11, which is Node's default and takes hundreds of times as long, for a page that is made once. */
const brotliQuality = 4;
const compressBrotli = promisify(brotliCompress);

/**
 * What a body may become many times as long as it was, and to which length it always may: a message of
 * millions of elements, which takes long to read, is worth more than fifteen bytes to whoever sends it.
 */
const mostExpansion = { times: 100, bytes: 256 * 1024 };

/** What clients may use for requests, and ask for in answers. */
export const compressions: Compression[] = [
  limited(compressionGzip),
  limited({
    ...compressionBrotli,
    compress: async (bytes) => new Uint8Array(await compressBrotli(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: brotliQuality } })),
  }),
];

/** Connect says INTERNAL of bytes that cannot be decompressed, which are their sender's fault. */
function limited(compression: Compression): Compression {
  return {
    ...compression,
    async decompress(bytes, maxBytes) {
      const most = Math.min(maxBytes, Math.max(mostExpansion.bytes, mostExpansion.times * bytes.byteLength));
      try {
        return await compression.decompress(bytes, most);
      } catch (error) {
        if (error instanceof ConnectError && error.code === Code.ResourceExhausted) {
          if (most === maxBytes) throw error;
          const text = `the body is more than ${mostExpansion.times} times as long, and than ${most} bytes, when it is decompressed: send it as it is`;
          throw new ConnectError(text, Code.ResourceExhausted);
        }
        throw new ConnectError(
          `what is said to be compressed with ${compression.name} is not`,
          Code.InvalidArgument,
          undefined,
          undefined,
          error,
        );
      }
    },
  };
}

/** What is smaller is not compressed: little is gained, and it fits into a packet. */
export const compressMinBytes = 1_024;

/** Returns how an answer is to be compressed, by the request's header `accept-encoding` (RFC 9110, section 12.5.3); undefined: not at all. */
export function answerCompression(header: Headers): Compression | undefined {
  const accepted = (header.get("accept-encoding") ?? "").split(",").map((part) => {
    const [name = "", weight = ""] = part.split(";").map((text) => text.trim().toLowerCase());
    return { name, quality: weight === "" ? 1 : Number(/^q=([01](?:\.\d{1,3})?)$/.exec(weight)?.[1] ?? 0) };
  });
  const wanted = accepted.filter(({ quality }) => quality > 0).toSorted((a, b) => b.quality - a.quality);
  return wanted.flatMap(({ name }) => compressions.filter((one) => one.name === name))[0];
}
