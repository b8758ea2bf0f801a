// node gateway/main.ts [SERVICE…]: the gateway in front of the services named, or of all.
import { serve } from "@parley/chassis/serve.ts";
import { exitOnStartError, StartError } from "@parley/chassis/start-error.ts";
import { services } from "../services/all.ts";
import { createGateway } from "./gateway.ts";

const names = Object.keys(services);
const chosen = process.argv.slice(2);
const unknown = chosen.find((name) => !names.includes(name));
if (unknown !== undefined) exitOnStartError(new StartError(`there is no service ${unknown}; there are ${names.join(", ")}`));
await serve([createGateway(chosen.length > 0 ? chosen : names)]);
