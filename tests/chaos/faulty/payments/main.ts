import { payments } from "@parley/payments/service.ts";
import { serveFaulty } from "../serve-faulty.ts";

await serveFaulty(payments);
