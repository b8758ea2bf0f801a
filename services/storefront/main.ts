import { serve } from "@parley/chassis/serve.ts";
import { storefront } from "./service.ts";

await serve([storefront]);
