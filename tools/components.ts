import type { Component } from "@parley/chassis/service.ts";
import { createGateway } from "@parley/gateway/gateway.ts";
import { services } from "../services/all.ts";

/** Loads all that the suite consists of: the services in their order, and the gateway in front of them. */
export async function loadComponents(): Promise<Component[]> {
  return [...(await Promise.all(Object.values(services).map((load) => load()))), createGateway(Object.keys(services))];
}
