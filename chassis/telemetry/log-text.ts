/** Fields that a line for people leaves out, or has in its text. */
const leftOut = new Set([
  ...["timestamp", "severity_text", "body", "service.name", "trace_id", "span_id", "rpc.method", "rpc.response.status_code", "duration_ms"],
  ...["client.address", "user_agent.original", "http.request.method", "http.response.status_code", "network.protocol.version", "url.path"],
]);

/** Returns what a line says, for people: what happened where, and the fields that matter. */
export function textOf(line: Readonly<Record<string, unknown>>): string {
  const { body, duration_ms: durationMs, "service.name": service, "rpc.method": method, "rpc.response.status_code": code } = line;
  const { "http.request.method": verb, "url.path": path, "http.response.status_code": status } = line;
  const what = verb === undefined ? [method, code] : [verb, path, status, code];
  const text =
    durationMs === undefined
      ? String(body)
      : `${[...what, ...(method === undefined && verb === undefined ? [body] : [])].filter((word) => word !== undefined).join(" ")} in ${durationMs} ms`;
  const more = Object.entries(line).filter(([name]) => !leftOut.has(name));
  return [
    service === undefined ? text : `${service}: ${text}`,
    ...(more.length > 0 ? [JSON.stringify(Object.fromEntries(more))] : []),
  ].join(" ");
}
