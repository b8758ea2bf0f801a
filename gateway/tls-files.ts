import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createSecureContext, type SecureContext } from "node:tls";
import { StartError } from "@parley/chassis/start-error.ts";
import type { Logger } from "pino";

/** How often the files are looked at. By their contents, for Kubernetes changes them by moving a link. */
const lookMs = 1_000;

/** A certificate with its key, as new as their files. */
export interface TlsFiles {
  readonly context: SecureContext;
  close(): void;
}

/**
 * Reads a certificate chain and its key, and reads them again whenever they change: new connections
 * have the new ones. Files that cannot be used, as while only one of them is new, change nothing, and are logged.
 *
 * Throws StartError where they cannot be used at the start.
 */
export async function openTlsFiles(certFile: string, keyFile: string, log: Logger): Promise<TlsFiles> {
  const read = (): Promise<[string, string]> => Promise.all([readFile(certFile, "utf8"), readFile(keyFile, "utf8")]);
  const contextOf = ([cert, key]: [string, string]): SecureContext => {
    // An empty file is as good as none to createSecureContext.
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) throw new Error("the key is not the certificate's");
    return createSecureContext({ cert, key, minVersion: "TLSv1.2" });
  };
  const place = `the certificate in ${certFile} with the key in ${keyFile}`;
  let seen: [string, string];
  let context: SecureContext;
  try {
    seen = await read();
    context = contextOf(seen);
  } catch (error) {
    throw new StartError(`${place} cannot be used: ${error instanceof Error ? error.message : error}`);
  }
  let isLooking = false;
  let problem: string | undefined;
  const look = async (): Promise<void> => {
    if (isLooking) return;
    isLooking = true;
    try {
      const now = await read();
      if (now.join() === seen.join()) return;
      context = contextOf(now);
      [seen, problem] = [now, undefined];
      log.info({ cert_file: certFile }, "new connections have a new certificate");
    } catch (error) {
      const text = String(error);
      if (text !== problem) log.warn({ err: error }, `${place} cannot be used: connections go on with the one before`);
      problem = text;
    } finally {
      isLooking = false;
    }
  };
  const timer = setInterval(() => void look(), lookMs).unref();
  return {
    get context() {
      return context;
    },
    close: () => clearInterval(timer),
  };
}
