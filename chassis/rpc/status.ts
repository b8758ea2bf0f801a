import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { StatusObject } from "@grpc/grpc-js";
import { StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import { toBuffer } from "./codec.ts";
import { retryDelayMsOf, statusMessageOf, wasRetried } from "./errors.ts";
import { headersToMetadata, metadataToHeaders } from "./metadata.ts";

const detailsKey = "grpc-status-details-bin";
/** Tells clients when to send the call again; less than 0: not at all (gRFC A6, Pushback). */
export const pushbackKey = "grpc-retry-pushback-ms";
/** A status that is larger, in bytes, is not sent: as trailers it is up to five times as long, and Node ends the whole connection over 64 KiB of them. */
const maxStatusBytes = 8 * 1024;

/** Returns the status that an error ends its call with, beside the trailer. Throws on what cannot be sent. */
export function statusOf(error: ConnectError, trailer: Headers): StatusObject {
  const metadata = headersToMetadata(trailer);
  if (!error.isWireError) metadata.merge(headersToMetadata(error.metadata));
  const message = statusMessageOf(error);
  const bytes = toBinary(StatusSchema, message);
  if (bytes.length > maxStatusBytes)
    throw new Error(`a status of ${bytes.length} bytes is too large to send: ${message.message.slice(0, 200)}`);
  const delayMs = wasRetried(error) ? -1 : retryDelayMsOf(error);
  if (delayMs !== undefined) metadata.set(pushbackKey, String(delayMs));
  // Without details too: it tells our client that the server spoke, not the channel.
  metadata.set(detailsKey, toBuffer(bytes));
  return { code: Number(error.code), details: message.message, metadata };
}

/** Whether a status is the server's own word, not the channel's: servers of the suite send it as a message too. */
export function isFromServer(status: StatusObject): boolean {
  return status.metadata.get(detailsKey).length > 0;
}

/** Returns the error of a status that is not OK, marked as a neighbour's. */
export function errorOf(status: StatusObject, header: Headers): ConnectError {
  const code: Code = status.code in Code ? Number(status.code) : Code.Unknown;
  // A peer may send no message at all, which grpc-js's types do not say.
  const error = new ConnectError(status.details ?? "", code, header);
  for (const [key, value] of metadataToHeaders(status.metadata)) error.metadata.append(key, value);
  const [details] = status.metadata.get(detailsKey);
  if (details instanceof Uint8Array) {
    error.details = fromBinary(StatusSchema, details).details.map(({ typeUrl, value }) => ({
      type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
      value,
    }));
  }
  error.isWireError = true;
  return error;
}
