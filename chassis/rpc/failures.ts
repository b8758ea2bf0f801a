import { Code } from "@connectrpc/connect";

/** What says that a service, or its replica, is not well. All else, refusals above all, is an answer. */
export const failures: ReadonlySet<Code> = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.ResourceExhausted, Code.Internal]);

/** A call that was given less, in milliseconds, was perhaps given too little: that it came to nothing in time says nothing of whom it was for. */
export const fairMs = 1_000;
