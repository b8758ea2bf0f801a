import type { DescEnum, DescEnumValue, DescField, DescFile, DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";

type Commented = DescMessage | DescField | DescEnum | DescEnumValue | DescService | DescMethod;

/** The numbers of fields in google/protobuf/descriptor.proto, which make the paths of SourceCodeInfo. */
const fieldOf = { message: 4, enum: 5, service: 6, nestedMessage: 3, nestedEnum: 4, field: 2, value: 2, method: 2 };

/** The comments of a file by the path of what they are about, such as `4,0,2,1`. */
const known = new WeakMap<DescFile, ReadonlyMap<string, string>>();

/** Returns the comment above a part of a contract, as Markdown, a paragraph a line; empty: there is none, or the descriptors came without. */
export function commentOf(desc: Commented): string {
  const file = "parent" in desc && desc.parent !== undefined ? desc.parent.file : "file" in desc ? desc.file : undefined;
  if (file === undefined) return "";
  const comments = known.get(file) ?? readComments(file);
  known.set(file, comments);
  return comments.get(pathOf(desc).join()) ?? "";
}

/** Returns a comment's first sentence. */
export function firstSentenceOf(comment: string): string {
  return /^.*?\.(?= [A-Z`]|$)/m.exec(comment)?.[0] ?? comment;
}

function readComments({ proto }: DescFile): Map<string, string> {
  const locations = proto.sourceCodeInfo?.location ?? [];
  return new Map(locations.map(({ path, leadingComments }) => [path.join(), paragraphsOf(leadingComments)]));
}

/** Lines of a comment are wrapped by their length, which means nothing; but for those of a list. */
function paragraphsOf(comment: string): string {
  const lines = comment.split("\n").map((line) => line.replace(/^ /, "").trimEnd());
  return lines
    .join("\n")
    .trim()
    .replace(/([^\n])\n(?!\n|- |\| |\d+\. | {2})/g, "$1 ");
}

function pathOf(desc: Commented): number[] {
  switch (desc.kind) {
    case "message":
      return desc.parent === undefined
        ? [fieldOf.message, desc.file.proto.messageType.indexOf(desc.proto)]
        : [...pathOf(desc.parent), fieldOf.nestedMessage, desc.parent.proto.nestedType.indexOf(desc.proto)];
    case "enum":
      return desc.parent === undefined
        ? [fieldOf.enum, desc.file.proto.enumType.indexOf(desc.proto)]
        : [...pathOf(desc.parent), fieldOf.nestedEnum, desc.parent.proto.enumType.indexOf(desc.proto)];
    case "service":
      return [fieldOf.service, desc.file.proto.service.indexOf(desc.proto)];
    case "field":
      return [...pathOf(desc.parent), fieldOf.field, desc.parent.proto.field.indexOf(desc.proto)];
    case "enum_value":
      return [...pathOf(desc.parent), fieldOf.value, desc.parent.proto.value.indexOf(desc.proto)];
    case "rpc":
      return [...pathOf(desc.parent), fieldOf.method, desc.parent.proto.method.indexOf(desc.proto)];
  }
}
