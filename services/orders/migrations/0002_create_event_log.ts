import { createEventLogTables } from "@parley/chassis/data/event-log.ts";

export const up = createEventLogTables;
