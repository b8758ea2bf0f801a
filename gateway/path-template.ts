/** A path template of `google.api.http`, such as `/v1/orders/{order_id}:cancel`, ready to match. */
export interface PathTemplate {
  /** Each segment: its text, or the field that it sets, such as `order.order_id`. */
  readonly segments: readonly (string | { readonly field: string })[];
  /** The text after the last segment's colon; empty: none. */
  readonly verb: string;
}

/**
 * Parses a template. Knows literal segments, variables of one segment and the verb.
 *
 * Throws on the rest of the grammar in google/api/http.proto: wildcards, alone or in variables.
 */
export function parsePathTemplate(text: string): PathTemplate {
  const [, path = "", verb = ""] = /^\/([^:]*)(?::([a-zA-Z][\w-]*))?$/.exec(text) ?? [];
  const segments = path.split("/").map((segment) => {
    const [, field] = /^\{([a-z][\w.]*)(?:=\*)?\}$/.exec(segment) ?? [];
    if (field !== undefined) return { field };
    if (!/^[\w.~-]+$/.test(segment)) throw new Error(`the path template ${text} is not supported`);
    return segment;
  });
  return { segments, verb };
}

/** Returns the decoded value of each of the template's variables, in order; undefined where the path does not match. */
export function matchPath(template: PathTemplate, path: string): string[] | undefined {
  const end = template.verb === "" ? path.length : path.length - template.verb.length - 1;
  if (template.verb !== "" && path.slice(end) !== `:${template.verb}`) return undefined;
  const parts = path.slice(1, end).split("/");
  if (parts.length !== template.segments.length) return undefined;
  const values: string[] = [];
  for (const [index, segment] of template.segments.entries()) {
    const part = parts[index] ?? "";
    if (typeof segment === "object") {
      const value = decode(part);
      if (value === undefined || value === "") return undefined;
      values.push(value);
    } else if (part !== segment) return undefined;
  }
  return values;
}

/** Orders templates so that the first that matches is the most particular: literals before variables, from the left. */
export function comparePathTemplates(a: PathTemplate, b: PathTemplate): number {
  const rank = ({ segments, verb }: PathTemplate): string =>
    segments.map((segment) => (typeof segment === "string" ? "0" : "1")).join("") + (verb === "" ? "1" : "0");
  return rank(a).localeCompare(rank(b));
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
