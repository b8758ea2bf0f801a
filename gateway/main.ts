import { serve } from "@parley/chassis/serve.ts";
import { services } from "../services/all.ts";
import { createGateway } from "./gateway.ts";

await serve([createGateway(Object.keys(services))]);
