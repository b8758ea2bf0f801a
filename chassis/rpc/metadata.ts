import type { OutgoingHttpHeaders } from "node:http2";
import { Metadata } from "@grpc/grpc-js";

/** Returns gRPC metadata as headers; values of `-bin` keys become base64 text, as Connect has them. */
export function metadataToHeaders(metadata: Metadata): Headers {
  const headers = new Headers();
  for (const [key, values] of Object.entries(metadata.toJSON())) {
    if (key.startsWith(":")) continue;
    for (const value of values) headers.append(key, typeof value === "string" ? value : value.toString("base64"));
  }
  return headers;
}

/** Headers that gRPC and HTTP/2 set by themselves (gRPC over HTTP/2, Requests and Responses; RFC 9113, section 8.2.2). */
const reserved = /^(connection|content-(length|type)|grpc-.*|host|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade)$/;

/**
 * Returns headers as gRPC metadata; text of `-bin` keys is decoded from base64.
 *
 * Throws on values that are not printable ASCII, and on headers that are not the caller's to set.
 */
export function headersToMetadata(headers: Headers): Metadata {
  const metadata = new UnpaddedMetadata();
  for (const [key, value] of headers) {
    if (reserved.test(key)) throw new Error(`the header ${key} is set by gRPC itself`);
    if (!key.endsWith("-bin")) metadata.add(key, value);
    else for (const part of value.split(",")) metadata.add(key, Buffer.from(part.trim(), "base64"));
  }
  return metadata;
}

/** Writes binary values without padding, as gRPC asks of implementations (gRPC over HTTP/2, Custom-Metadata); grpc-js pads them. */
class UnpaddedMetadata extends Metadata {
  override clone(): Metadata {
    const copy = new UnpaddedMetadata(this.getOptions());
    copy.merge(this);
    return copy;
  }

  override toHttp2Headers(): OutgoingHttpHeaders {
    const headers = super.toHttp2Headers();
    for (const [key, value] of Object.entries(headers)) {
      if (!key.endsWith("-bin")) continue;
      if (Array.isArray(value)) headers[key] = value.map(unpadded);
      else if (typeof value === "string") headers[key] = unpadded(value);
    }
    return headers;
  }
}

function unpadded(base64: string): string {
  return base64.replace(/=+$/, "");
}
