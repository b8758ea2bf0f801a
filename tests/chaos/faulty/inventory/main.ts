import { inventory } from "@parley/inventory/service.ts";
import { serveFaulty } from "../serve-faulty.ts";

await serveFaulty(inventory);
