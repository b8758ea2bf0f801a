import type { Component } from "@parley/chassis/service.ts";
import { StartError } from "@parley/chassis/start-error.ts";
import { services } from "../services/all.ts";

/** Loads a service by its name. Throws StartError, naming those that there are. */
export async function findService(name: string): Promise<Component> {
  const load = services[name];
  if (load === undefined) throw new StartError(`there is no service ${name}; there are ${Object.keys(services).join(", ")}`);
  return load();
}
