import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";

/** Reads messages of which each comes after its length in 4 bytes, as the runner sends them. */
export async function* readDelimited<Desc extends DescMessage>(schema: Desc): AsyncGenerator<MessageShape<Desc>> {
  let bytes = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE()) {
      const end = 4 + bytes.readUInt32BE();
      yield fromBinary(schema, bytes.subarray(4, end));
      bytes = bytes.subarray(end);
    }
  }
}

export function writeDelimited<Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>): void {
  const message = toBinary(schema, create(schema, init));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length);
  process.stdout.write(Buffer.concat([length, message]));
}
