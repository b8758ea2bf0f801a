import { cut, hasBody, isComplete, type NodeRequest, type NodeResponse } from "./node-request.ts";
import { breakOff } from "./refuse.ts";

/**
 * Sees to it that a request's body, where it has one, ends.
 *
 * What is left of it when its answer was sent is read and dropped, so that the connection comes to its
 * next request: Node does so only for a body that nobody has begun to read. One that is not all here in
 * time, counted from its answer where the body is a stream, ends the request: with 408 (RFC 9110,
 * section 15.5.9) as long as nothing was answered.
 */
export function endBody(
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
      else breakOff(request, response, 408, "the request's body took too long\n");
    }, timeoutMs);
  };
  // Whoever began to read it listens still, which would hold it back.
  response.once("finish", () => isComplete(request) || request.removeAllListeners("readable").resume());
  if (isStream) response.once("finish", start);
  else start();
  const stop = (): void => clearTimeout(timer);
  // Of a HEAD over HTTP/2 Node says that it has ended when it was answered.
  if ("stream" in request) request.stream.once("close", stop);
  else for (const event of ["end", "close"]) request.once(event, stop);
}
