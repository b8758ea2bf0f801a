/** Fields that a line for people leaves out, or has in its text. */
const leftOut = new Set([
  ...["timestamp", "severity_text", "body", "service.name", "trace_id", "span_id", "rpc.method", "rpc.response.status_code", "duration_ms"],
  ...["exception.type", "exception.message", "exception.stacktrace"],
  ...["client.address", "user_agent.original", "http.request.method", "http.response.status_code", "network.protocol.version", "url.path"],
]);

/** What would move the cursor of a terminal, turn its text around, or worse; but for the ends of lines. */
const controls = /[[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]--\n]/gv;

/** Returns what a line says, for people: what happened where, the fields that matter, and of an error the stack below. */
export function textOf(line: Readonly<Record<string, unknown>>): string {
  const { body, table, duration_ms: durationMs, "service.name": service, "rpc.method": method, "rpc.response.status_code": code } = line;
  const { "http.request.method": verb, "url.path": path, "http.response.status_code": status, "exception.stacktrace": stack } = line;
  const what = [verb, path, status, ...(verb === undefined ? [method] : []), code].filter((word) => word !== undefined);
  const text = durationMs === undefined ? body : `${(what.length > 0 ? what : [body, table]).join(" ")} in ${durationMs} ms`;
  const more = Object.entries(line).filter(([name]) => !leftOut.has(name));
  const words = [
    ...(service === undefined ? [] : [`${service}:`]),
    text,
    ...(more.length > 0 ? [JSON.stringify(Object.fromEntries(more))] : []),
  ];
  const below = typeof stack === "string" ? `\n  ${stack.replaceAll("\n", "\n  ")}` : "";
  return `${words.join(" ")}${below}`.replaceAll(controls, "\ufffd");
}
