import { serve } from "@parley/chassis/serve.ts";
import { greeter } from "./service.ts";

await serve([greeter]);
