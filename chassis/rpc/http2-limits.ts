/**
 * Limits of a server's HTTP/2 connections, as options of node:http2.
 *
 * A connection carries the calls of many users, and all of them fail when it is closed because
 * some of them leave. Node's own limits are made against attackers (CVE-2023-44487): it closes a
 * connection after 1,000 cancelled streams at once or 33 a second, and after 100 streams beyond
 * `maxConcurrentStreams`, among which it counts those that were cancelled a moment ago. A reset
 * costs less than the call that it ends, so a client gains nothing by it.
 */
export const http2Limits = { streamResetBurst: 10_000, streamResetRate: 10_000, maxSessionRejectedStreams: 10_000 };
