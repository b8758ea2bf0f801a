import { type ContextKey, createContextKey } from "@connectrpc/connect";

/** The client's address, such as `127.0.0.1:50312`. Set by the server for its interceptors. */
export const peerKey: ContextKey<string> = createContextKey("unknown", { description: "peer" });

/** When the call's deadline is, on the clock of performance.now(). Set by the server for its interceptors. */
export const deadlineKey: ContextKey<number | undefined> = createContextKey<number | undefined>(undefined, { description: "deadline" });
