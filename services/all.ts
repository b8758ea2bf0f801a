import type { Component } from "@parley/chassis/service.ts";

/**
 * Every service of the suite by its name, a line each, in the order of their ports, and each after
 * those that it calls (not those whose events it reads): in one process they stop in reverse. A service is loaded only where it
 * runs: the gateway needs the names alone.
 */
export const services: Readonly<Record<string, () => Promise<Component>>> = {
  greeter: async () => (await import("@parley/greeter/service.ts")).greeter,
  catalog: async () => (await import("@parley/catalog/service.ts")).catalog,
  inventory: async () => (await import("@parley/inventory/service.ts")).inventory,
  carts: async () => (await import("@parley/carts/service.ts")).carts,
  storefront: async () => (await import("@parley/storefront/service.ts")).storefront,
  payments: async () => (await import("@parley/payments/service.ts")).payments,
  orders: async () => (await import("@parley/orders/service.ts")).orders,
  notifications: async () => (await import("@parley/notifications/service.ts")).notifications,
};
