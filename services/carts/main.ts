import { serve } from "@parley/chassis/serve.ts";
import { carts } from "./service.ts";

await serve([carts]);
