import { serve } from "@parley/chassis/serve.ts";
import { notifications } from "./service.ts";

await serve([notifications]);
