import { serve } from "@parley/chassis/serve.ts";
import { payments } from "./service.ts";

await serve([payments]);
