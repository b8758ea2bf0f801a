import { serve } from "@parley/chassis/serve.ts";
import { catalog } from "./service.ts";

await serve([catalog]);
