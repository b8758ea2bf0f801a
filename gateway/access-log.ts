import { type ConnectError, type ContextKey, createContextKey, type Interceptor } from "@connectrpc/connect";
import { methodName } from "@parley/chassis/rpc/contract.ts";
import { findCurrentCall } from "@parley/chassis/rpc/current-call.ts";
import { statusName } from "@parley/chassis/rpc/errors.ts";
import { severityOf } from "@parley/chassis/rpc/failures.ts";
import { watchEnd } from "@parley/chassis/rpc/response.ts";
import { durationSince, failureFields, fieldsOf } from "@parley/chassis/telemetry/log-fields.ts";
import { eachCounts } from "@parley/chassis/telemetry/repeats.ts";
import type { Logger } from "pino";
import { type NodeRequest, type NodeResponse, pathOf } from "./node-request.ts";

/** What became of the call that a request made. */
export interface CallEnd {
  method?: string;
  code?: string;
  /** Why it, or the request before there was a call, failed. */
  error?: ConnectError | undefined;
  /** Of the call, as each line of the log that belongs to it has them. */
  ids?: Record<string, unknown> | undefined;
  /** Whether it was the request that could not be read: that is nobody's fault but its client's, whatever the code. */
  isOfRequest?: boolean;
}

export const callEndKey: ContextKey<CallEnd> = createContextKey<CallEnd>({}, { description: "end of the call" });

/** Tells the access log how a call ended. */
export const reportCallEnd: Interceptor = (next) => (req) => {
  const end = req.contextValues.get(callEndKey);
  end.method = methodName(req.method);
  const call = findCurrentCall();
  return watchEnd(
    req.signal,
    () => next(req.stream ? { ...req, message: watchRequests(req.message, end) } : req),
    (error) => {
      end.ids = call && fieldsOf(call);
      end.code = statusName(error);
      end.error = error;
    },
  );
};

async function* watchRequests<T>(messages: AsyncIterable<T>, end: CallEnd): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    end.isOfRequest = true;
    throw error;
  }
}

/**
 * Logs one line for a request when it has ended: of HTTP the method, the path without its query,
 * which may hold a token, and the status; the client; and of the call, where it made one, what services log too.
 * Returns what the call's end is reported to.
 */
export function logRequest(request: NodeRequest, response: NodeResponse, client: string, log: Logger): CallEnd {
  const startedMs = performance.now();
  const end: CallEnd = {};
  const { method, httpVersion, headers } = request;
  response.once("close", () => {
    const isAnswered = response.writableFinished || response.writableEnded;
    const code =
      end.code ??
      (end.error !== undefined ? statusName(end.error) : undefined) ??
      (end.method !== undefined && !isAnswered ? "CANCELLED" : undefined);
    const isOfCall = end.method !== undefined && end.isOfRequest !== true;
    log[isOfCall ? severityOf(end.error) : "info"](
      {
        "http.request.method": method,
        "url.path": pathOf(request).slice(0, 500),
        "http.response.status_code": response.headersSent ? response.statusCode : undefined,
        "network.protocol.version": httpVersion,
        "rpc.method": end.method,
        "rpc.response.status_code": code,
        duration_ms: durationSince(startedMs),
        "client.address": client,
        "user_agent.original": headers["user-agent"]?.slice(0, 200),
        ...end.ids,
        ...(end.error && failureFields(end.error)),
        // What is wrong with a request is told in its own words, which may be anybody's secret.
        ...(!isOfCall && { "error.message": undefined }),
        [eachCounts]: true,
      },
      "request",
    );
  });
  return end;
}
