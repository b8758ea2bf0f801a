import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";

/** Returns the function that writes messages as grpc-js wants them. */
export function serializer<T extends DescMessage>(schema: T): (message: MessageShape<T>) => Buffer {
  return (message) => toBuffer(toBinary(schema, message));
}

/**
 * Returns the function that reads messages. It throws on what is not one. Unknown fields are
 * skipped: each that is kept costs some ninety times its bytes, and no handler can read it.
 */
export function parser<T extends DescMessage>(schema: T): (bytes: Uint8Array) => MessageShape<T> {
  return (bytes) => fromBinary(schema, bytes, { readUnknownFields: false });
}

/** Returns the same bytes as a Buffer, without a copy: grpc-js takes nothing else. */
export function toBuffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
