import { orders } from "@parley/orders/service.ts";
import { serveFaulty } from "../serve-faulty.ts";

await serveFaulty(orders);
