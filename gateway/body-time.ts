import { cut, hasBody, isComplete, type NodeRequest, type NodeResponse } from "./node-request.ts";
import { refuse } from "./refuse.ts";

/**
 * Ends a request whose body, where it has one, is not all here in time, counted from its answer
 * where the body is a stream: with 408 (RFC 9110, section 15.5.9) as long as nothing was answered.
 */
export function limitBodyTime(
  request: NodeRequest,
  response: NodeResponse,
  { timeoutMs, isStream }: { timeoutMs: number; isStream: boolean },
): void {
  if (!hasBody(request)) return;
  let timer: NodeJS.Timeout | undefined;
  const start = (): void => {
    timer = setTimeout(() => {
      if (isComplete(request)) return;
      if (response.headersSent) cut(response);
      else refuse(request, response, 408, "the request's body took too long\n");
    }, timeoutMs);
  };
  if (isStream) response.once("finish", start);
  else start();
  const stop = (): void => clearTimeout(timer);
  // Of a HEAD over HTTP/2 Node says that it has ended when it was answered.
  if ("stream" in request) request.stream.once("close", stop);
  else for (const event of ["end", "close"]) request.once(event, stop);
}
