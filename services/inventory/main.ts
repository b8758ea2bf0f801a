import { serve } from "@parley/chassis/serve.ts";
import { inventory } from "./service.ts";

await serve([inventory]);
