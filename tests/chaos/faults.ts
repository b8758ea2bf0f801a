import { renameSync, writeFileSync } from "node:fs";

/** The variable that names the file in which a service finds what is wrong with it. */
export const faultsVariable = "PARLEY_CHAOS_FILE";

/** What is wrong with a process of a service. */
export type Fault =
  /** It answers so much later, in milliseconds. */
  | { readonly kind: "late"; readonly ms: number }
  /** This share of its answers are errors with this code. */
  | { readonly kind: "errors"; readonly share: number; readonly code: "unavailable" | "internal" }
  /** It does not come up again when it is killed. */
  | { readonly kind: "dead" }
  /** Its clock is so much ahead, in milliseconds. */
  | { readonly kind: "clock"; readonly aheadMs: number };

/** The faults of processes, by their gRPC ports. */
export type Faults = Readonly<Record<string, Fault>>;

/** Writes what is wrong from now on, so that whoever reads it sees all of it or nothing. */
export function writeFaults(file: string, faults: Faults): void {
  writeFileSync(`${file}.new`, JSON.stringify(faults));
  renameSync(`${file}.new`, file);
}
