import { serve } from "@parley/chassis/serve.ts";
import { orders } from "./service.ts";

await serve([orders]);
