// Loaded before anything else in a container (node --import): its first process does not end at a signal
// for which it has no handler, and those of serve() come only when all modules are loaded.
import { exitOnSignal } from "./signals.ts";

exitOnSignal();
