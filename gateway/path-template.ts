/** A segment of a path template: its text, percent-decoded; or one segment of any text; or all that are left. */
export type Segment = { readonly literal: string } | "*" | "**";

/** What a variable of a path template takes: the segments from `start` to before `end`. */
export interface PathVariable {
  /** The path of the field that it sets, such as `order.order_id`. */
  readonly field: string;
  readonly start: number;
  readonly end: number;
}

/** A path template of `google.api.http`, such as `/v1/orders/{order_id}:cancel`. */
export interface PathTemplate {
  readonly segments: readonly Segment[];
  readonly variables: readonly PathVariable[];
  /** The text after the last segment's colon; empty: none. */
  readonly verb: string;
}

const slashOutsideBraces = /\/(?![^{}]*\})/;

/**
 * Parses a template by the grammar of google/api/http.proto, section "Path template syntax".
 *
 * Throws where the text is none, and where `**` is not its last segment.
 */
export function parsePathTemplate(text: string): PathTemplate {
  const [, path = "", verb = ""] = /^\/(.+?)(?::([^/:{}*]+))?$/.exec(text) ?? [];
  const segments: Segment[] = [];
  const variables: PathVariable[] = [];
  const wrong = (why: string): Error => new Error(`${text} is no path template: ${why}`);
  const addSegment = (segment: string): void => {
    if (segments.at(-1) === "**") throw wrong("** is not its last segment");
    segments.push(segment === "*" || segment === "**" ? segment : { literal: literalOf(segment) });
  };
  const literalOf = (segment: string): string => {
    // What may stand in a segment of a path (RFC 3986, section 3.3), but for the grammar's own characters.
    const literal = /^(?:[\w.~!$&'()+,;@-]|%[0-9a-fA-F]{2})+$/.test(segment) ? decodeSegment(segment) : undefined;
    if (literal === undefined) throw wrong(`its segment "${segment}" is neither text, nor *, ** or a variable`);
    return literal;
  };
  for (const segment of path.split(slashOutsideBraces)) {
    const [, field, own = "*"] = /^\{([a-zA-Z_]\w*(?:\.[a-zA-Z_]\w*)*)(?:=([^{}]+))?\}$/.exec(segment) ?? [];
    if (field === undefined) addSegment(segment);
    else {
      const start = segments.length;
      for (const part of own.split("/")) addSegment(part);
      if (variables.some((other) => other.field === field)) throw wrong(`it has two variables ${field}`);
      variables.push({ field, start, end: segments.length });
    }
  }
  return { segments, variables, verb };
}

/** Returns the value that a variable takes from a path's segments, as they are in the URL; undefined where that is no UTF-8. */
export function textOf({ start, end }: PathVariable, { segments }: PathTemplate, parts: readonly string[]): string | undefined {
  const isRest = segments[end - 1] === "**";
  if (end - start === 1 && !isRest) return decodeSegment(parts[start] ?? "");
  const decoded = parts.slice(start, isRest ? undefined : end).map(decodeButSlashes);
  return decoded.includes(undefined) ? undefined : decoded.join("/");
}

/** Decodes percent-encoded text. Returns undefined where it is no UTF-8. */
export function decodeSegment(text: string): string | undefined {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** In a variable of several segments an encoded slash stays as it is, for it is none between segments. */
function decodeButSlashes(text: string): string | undefined {
  const parts = text.split(/(%2[fF])/).map((part) => (/^%2f$/i.test(part) ? part : decodeSegment(part)));
  return parts.includes(undefined) ? undefined : parts.join("");
}
