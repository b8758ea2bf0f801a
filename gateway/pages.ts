import { readFileSync } from "node:fs";
import type { DescService } from "@bufbuild/protobuf";
import { createAsyncIterable, type UniversalHandlerFn, type UniversalServerResponse } from "@connectrpc/connect/protocol";
import { answerCompression } from "./compression.ts";
import { types } from "./contracts.ts";
import { createOpenApi } from "./openapi.ts";

/** What the docs page may load: its own scripts and styles, the pictures that these have in them, and answers of the gateway. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const version: string = JSON.parse(readHere("package.json").toString()).version;

/** Returns what the gateway itself has to show, by its path: the OpenAPI document of the contracts, and the page to read and try it. */
export function createPages(contracts: readonly DescService[]): ReadonlyMap<string, UniversalHandlerFn> {
  const html = createPage("text/html; charset=utf-8", () => readHere("docs/index.html"));
  const script = "text/javascript; charset=utf-8";
  return new Map([
    ["/", forReaders(async () => ({ status: 302, header: new Headers({ location: "/docs", "content-length": "0" }) }))],
    ["/docs", html],
    ["/docs/docs.js", createPage(script, () => readHere("docs/docs.js"))],
    ["/docs/swagger-ui.js", createPage(script, () => readSwaggerUi("swagger-ui-bundle.js"))],
    ["/docs/swagger-ui.css", createPage("text/css; charset=utf-8", () => readSwaggerUi("swagger-ui.css"))],
    ["/docs/favicon.png", createPage("image/png", () => readSwaggerUi("favicon-32x32.png"))],
    ["/openapi.json", createPage("application/json", () => Buffer.from(JSON.stringify(createOpenApi(contracts, types, version))))],
  ]);
}

/** Contents are read when somebody asks for them, for few do, and compressed once. */
function createPage(contentType: string, read: () => Uint8Array): UniversalHandlerFn {
  let contents: Uint8Array | undefined;
  const compressed = new Map<string, Uint8Array>();
  return forReaders(async ({ header }) => {
    contents ??= read();
    const compression = answerCompression(header);
    let bytes = compression === undefined ? contents : compressed.get(compression.name);
    if (compression !== undefined && bytes === undefined) {
      bytes = await compression.compress(contents);
      compressed.set(compression.name, bytes);
    }
    const headers = new Headers({
      "content-type": contentType,
      "content-length": String(bytes?.byteLength),
      "cache-control": "no-cache",
      "content-security-policy": contentSecurityPolicy,
      "referrer-policy": "no-referrer",
      ...(compression !== undefined && { "content-encoding": compression.name }),
    });
    return { status: 200, header: headers, body: createAsyncIterable(bytes === undefined ? [] : [bytes]) };
  });
}

function forReaders(handler: UniversalHandlerFn): UniversalHandlerFn {
  return async (request): Promise<UniversalServerResponse> =>
    request.method === "GET" || request.method === "HEAD" ? handler(request) : { status: 405, header: new Headers({ allow: "GET, HEAD" }) };
}

function readHere(path: string): Buffer {
  return readFileSync(new URL(path, import.meta.url));
}

function readSwaggerUi(file: string): Buffer {
  return readFileSync(new URL(import.meta.resolve(`swagger-ui-dist/${file}`)));
}
