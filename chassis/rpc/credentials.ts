import { ChannelCredentials, experimental, ServerCredentials } from "@grpc/grpc-js";
import type { TlsFiles, TlsPems } from "../tls-files.ts";

/** Returns with what a server takes connections: with its certificate, from clients that have one of the same authority; undefined: without TLS. */
export function serverCredentials(tls: TlsFiles | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  const provider = createProvider(tls);
  return experimental.createCertificateProviderServerCredentials(provider, provider, true);
}

/** Returns with what a client connects: with its certificate, to a server that has one of the same authority for the target's name; undefined: without TLS. */
export function channelCredentials(tls: TlsFiles | undefined): ChannelCredentials {
  if (tls === undefined) return ChannelCredentials.createInsecure();
  const provider = createProvider(tls);
  return experimental.createCertificateProviderChannelCredentials(provider, provider);
}

/** grpc-js has a provider that watches files itself, but one that takes a key for a certificate that is not its own. */
function createProvider(tls: TlsFiles): experimental.CertificateProvider {
  const caListeners = new Set<experimental.CaCertificateUpdateListener>();
  const identityListeners = new Set<experimental.IdentityCertificateUpdateListener>();
  const caOf = ({ ca }: TlsPems) => ({ caCertificate: Buffer.from(ca) });
  const identityOf = ({ cert, key }: TlsPems) => ({ certificate: Buffer.from(cert), privateKey: Buffer.from(key) });
  tls.onChange((pems) => {
    for (const listener of caListeners) listener(caOf(pems));
    for (const listener of identityListeners) listener(identityOf(pems));
  });
  return {
    addCaCertificateListener(listener) {
      caListeners.add(listener);
      process.nextTick(() => listener(caOf(tls.pems))); // grpc-js takes an answer at once for none
    },
    removeCaCertificateListener: (listener) => void caListeners.delete(listener),
    addIdentityCertificateListener(listener) {
      identityListeners.add(listener);
      process.nextTick(() => listener(identityOf(tls.pems)));
    },
    removeIdentityCertificateListener: (listener) => void identityListeners.delete(listener),
  };
}
