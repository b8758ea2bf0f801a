import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { Metadata, type StatusObject } from "@grpc/grpc-js";
import { type Status, StatusSchema } from "@parley/gen/google/rpc/status_pb.js";
import { ErrorReason } from "@parley/gen/parley/errors/v1/errors_pb.js";
import { toBuffer } from "./codec.ts";
import { fail } from "./errors.ts";
import { headersToMetadata, metadataToHeaders } from "./metadata.ts";

const detailsKey = "grpc-status-details-bin";

/** Returns the status that an error ends its call with, beside the trailer. What is not a ConnectError shows nothing of itself. */
export function statusOf(reason: unknown, trailer: Headers): StatusObject {
  const error = reason instanceof ConnectError ? reason : fail(ErrorReason.INTERNAL, "internal error");
  const metadata = metadataOf(error, trailer);
  const message = statusMessageOf(error);
  // Without details too: it tells our client that the server spoke, not the channel.
  metadata.set(detailsKey, toBuffer(toBinary(StatusSchema, message)));
  return { code: Number(error.code), details: message.message, metadata };
}

/** Returns an error as the message that carries its details. */
export function statusMessageOf(error: ConnectError): Status {
  return create(StatusSchema, {
    code: error.code,
    message: error.rawMessage.toWellFormed(), // grpc-js throws on half a surrogate pair
    details: error.details.map((detail) =>
      "desc" in detail
        ? anyPack(detail.desc, create(detail.desc, detail.value))
        : { typeUrl: `type.googleapis.com/${detail.type}`, value: detail.value },
    ),
  });
}

/** Whether a status is the server's own word, not the channel's: servers of the suite send it as a message too. */
export function isFromServer(status: StatusObject): boolean {
  return status.metadata.get(detailsKey).length > 0;
}

/** Returns the error of a status that is not OK, marked as a neighbour's. */
export function errorOf(status: StatusObject, header: Headers): ConnectError {
  const code: Code = status.code in Code ? Number(status.code) : Code.Unknown;
  const error = new ConnectError(status.details, code, header);
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

function metadataOf(error: ConnectError, trailer: Headers): Metadata {
  try {
    const metadata = headersToMetadata(trailer);
    if (!error.isWireError) metadata.merge(headersToMetadata(error.metadata));
    return metadata;
  } catch {
    return new Metadata(); // it holds what no header may: the error itself matters more
  }
}
