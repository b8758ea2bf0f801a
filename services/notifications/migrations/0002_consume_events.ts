import { createConsumerTables } from "@parley/chassis/data/consumer.ts";

export const up = createConsumerTables;
