import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Logger } from "pino";
import { StartError } from "./start-error.ts";

/** How often the files are looked at. By their contents, for Kubernetes changes them by moving a link. */
const lookMs = 1_000;

/** Where a certificate chain, its key and, where those at the other end need one of it, the authority's certificates are. */
export interface TlsFileNames {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
}

/** What the files say, in PEM. */
export type TlsPems = Readonly<Record<keyof TlsFileNames, string>>;

/** A certificate with its key, as new as their files. */
export interface TlsFiles {
  readonly pems: TlsPems;
  /** For a server that asks clients for no certificate. */
  readonly context: SecureContext;
  /** Calls back with each later contents that can be used. */
  onChange(listener: (pems: TlsPems) => void): void;
  close(): void;
}

/** Opens the files of a folder as cert-manager names them in its Secrets. */
export function openTlsFolder(folder: string, log: Logger): Promise<TlsFiles> {
  return openTlsFiles({ cert: join(folder, "tls.crt"), key: join(folder, "tls.key"), ca: join(folder, "ca.crt") }, log);
}

/**
 * Reads a certificate with its key, and reads them again whenever they change: new connections
 * have the new ones. Files that cannot be used, as while only one of them is new, change nothing, and are logged.
 *
 * Throws StartError where they cannot be used at the start.
 */
export async function openTlsFiles(files: TlsFileNames, log: Logger): Promise<TlsFiles> {
  const place = `the certificate in ${files.cert} with the key in ${files.key}`;
  const read = async (): Promise<TlsPems> => {
    const [cert, key, ca] = await Promise.all([files.cert, files.key, files.ca].map((file) => (file ? readFile(file, "utf8") : "")));
    return { cert: cert ?? "", key: key ?? "", ca: ca ?? "" };
  };
  const contextOf = ({ cert, key, ca }: TlsPems): SecureContext => {
    // An empty file is as good as none to createSecureContext.
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) throw new Error("the key is not the certificate's");
    if (files.ca !== undefined) assertCertificates(ca);
    return createSecureContext({ cert, key, minVersion: "TLSv1.2" });
  };
  let pems: TlsPems;
  let context: SecureContext;
  try {
    pems = await read();
    context = contextOf(pems);
  } catch (error) {
    throw new StartError(`${place} cannot be used: ${error instanceof Error ? error.message : error}`);
  }
  const warnIfOver = ({ cert }: TlsPems): void => {
    const { validToDate } = new X509Certificate(cert);
    if (validToDate.getTime() < Date.now()) log.warn({ valid_to: validToDate }, `${place} has expired: who checks it will not connect`);
  };
  warnIfOver(pems);
  const listeners: ((pems: TlsPems) => void)[] = [];
  let isLooking = false;
  let problem: string | undefined;
  const look = async (): Promise<void> => {
    if (isLooking) return;
    isLooking = true;
    try {
      const now = await read();
      if (JSON.stringify(now) === JSON.stringify(pems)) return;
      context = contextOf(now);
      [pems, problem] = [now, undefined];
      for (const listener of listeners) listener(now);
      warnIfOver(now);
      log.info({ cert_file: files.cert }, "new connections have a new certificate");
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
    get pems() {
      return pems;
    },
    get context() {
      return context;
    },
    onChange: (listener) => void listeners.push(listener),
    close: () => clearInterval(timer),
  };
}

/** Throws where a bundle has what is no certificate: TLS reads it up to there, and trusts the rest no more, without a word. */
function assertCertificates(bundle: string): void {
  const certificates = bundle.match(/^-----BEGIN [^-]+-----\r?\n[^-]+^-----END [^-]+-----\s*$/gm) ?? [];
  if (certificates.length === 0 || certificates.length !== bundle.match(/-----BEGIN/g)?.length)
    throw new Error("the authority's file is no sequence of certificates");
  for (const certificate of certificates) new X509Certificate(certificate);
}
