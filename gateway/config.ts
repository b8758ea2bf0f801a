import { authConfig } from "@parley/chassis/auth/authenticate.ts";
import { type ConfigShape, count, duration, list, oneOf, optionalFile, port } from "@parley/chassis/config.ts";
import { z } from "zod";
import { isAddressRange } from "./client-address.ts";

const isOrigin = (text: string): boolean => URL.canParse(text) && new URL(text).origin === text;

/** The variables of the gateway, beside those that every process has. */
export const gatewayConfig = {
  PARLEY_GATEWAY_PORT: port(8080, "HTTP port of the gateway"),
  PARLEY_GATEWAY_TLS_CERT_FILE: optionalFile("File of the certificate chain, PEM; read again when it changes", "no TLS"),
  PARLEY_GATEWAY_TLS_KEY_FILE: optionalFile("File of the certificate's private key, PEM", "no TLS"),
  PARLEY_GATEWAY_HEADER_TIMEOUT: duration("10s", "Time that a client has to send a request's headers"),
  PARLEY_GATEWAY_BODY_TIMEOUT: duration("10s", "Time that a client has to send the body of a request that is not a stream"),
  PARLEY_GATEWAY_UNREAD_TIMEOUT: duration(
    "30s",
    "Time after which a connection is cut off that takes nothing of what is sent; a stream, after twice that",
  ),
  PARLEY_GATEWAY_MAX_CONNECTIONS: count(10_000, "Connections that the gateway has open at once; further ones are closed"),
  PARLEY_GATEWAY_MAX_CONNECTIONS_PER_CLIENT: count(1_000, "Connections of one client address at most, proxies aside"),
  PARLEY_GATEWAY_MAX_STREAMS: count(250, "Streams of HTTP/2 that one connection may have open; clients keep further ones back"),
  PARLEY_GATEWAY_MAX_CALLS: count(10_000, "Calls that the gateway has in progress at once; further ones are refused with 503"),
  PARLEY_GATEWAY_MAX_CALLS_PER_CLIENT: count(500, "Calls in progress of one client address; further ones are refused with 429"),
  PARLEY_GATEWAY_RATE_LIMIT: count(
    0,
    "Calls a second of one token's subject, or of one client address without a token; further ones are refused with 429; 0: no limit",
  ),
  PARLEY_GATEWAY_RATE_BURST: count(100, "Calls that may come at once where PARLEY_GATEWAY_RATE_LIMIT is set"),
  PARLEY_GATEWAY_TRUSTED_PROXIES: list(
    "Addresses, or ranges such as 10.0.0.0/8, of proxies whose x-forwarded-for is believed",
    z.string().refine(isAddressRange, "addresses or ranges such as 10.0.0.0/8, separated by commas"),
  ),
  PARLEY_GATEWAY_REFLECTION: oneOf(["on", "off"], "off", "Whether the gateway, too, describes the contracts by gRPC reflection"),
  PARLEY_CORS_ORIGINS: list(
    "Origins whose pages may call the gateway from a browser, such as http://localhost:5173",
    z.string().refine(isOrigin, "origins such as http://localhost:5173, separated by commas"),
  ),
  // Whose token it is counts for the limit of calls a second.
  ...authConfig,
} satisfies ConfigShape;
