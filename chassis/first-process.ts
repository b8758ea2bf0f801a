// Loaded before anything else (node --import), for the handlers of serve() come only when all modules are loaded: a
// container's first process does not end at a signal without one, and any other ends at SIGUSR2, and opens Node's debugger at SIGUSR1.
import { exitOnSignal } from "./signals.ts";

exitOnSignal();
