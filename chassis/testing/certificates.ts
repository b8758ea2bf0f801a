import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { generate } from "selfsigned";

/** A certificate authority of a test's own. */
export interface TestAuthority {
  /** Puts a certificate for names, which may be IP addresses, and its key into a folder, as Kubernetes has mounted Secrets of cert-manager: by links. */
  issue(folder: string, names: readonly string[], options?: { notAfterDate?: Date }): Promise<void>;
}

export async function createTestAuthority(): Promise<TestAuthority> {
  const authority = await generate([{ name: "commonName", value: "authority" }], {
    keyType: "ec",
    algorithm: "sha256",
    extensions: [{ name: "basicConstraints", cA: true, critical: true }],
  });
  let issued = 0;
  return {
    async issue(folder, names, { notAfterDate } = {}) {
      const { cert, private: key } = await generate([{ name: "commonName", value: names[0] ?? "" }], {
        keyType: "ec",
        algorithm: "sha256",
        ...(notAfterDate && { notBeforeDate: new Date(0), notAfterDate }),
        ca: { cert: authority.cert, key: authority.private },
        extensions: [
          {
            name: "subjectAltName",
            altNames: names.map((name) => (/^[\d.]+$/.test(name) ? { type: 7, ip: name } : { type: 2, value: name })),
          },
        ],
      });
      issued++;
      const data = join(folder, `..${issued}-${Date.now()}`);
      mkdirSync(data);
      for (const [file, text] of Object.entries({ "tls.crt": cert, "tls.key": key, "ca.crt": authority.cert })) {
        writeFileSync(join(data, file), text, { mode: 0o600 });
        replaceLink(join("..data", file), join(folder, file));
      }
      replaceLink(data, join(folder, "..data"));
    },
  };
}

function replaceLink(target: string, link: string): void {
  rmSync(`${link}.new`, { force: true });
  symlinkSync(target, `${link}.new`);
  renameSync(`${link}.new`, link);
}
