import { type ChildProcess, fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type CallOptions, createClient } from "@connectrpc/connect";
import { signUserToken } from "@parley/chassis/auth/key.ts";
import { ensureLocalKeys, localUsersKey } from "@parley/chassis/auth/local-keys.ts";
import { startEmbeddedDatabases } from "@parley/chassis/data/embedded-databases.ts";
import { localTargets } from "@parley/chassis/rpc/transports.ts";
import { startProcess } from "@parley/chassis/serve.ts";
import { makeDataDir } from "@parley/chassis/testing/data-dir.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { createTestLog, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { OrderState, OrdersService } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { checkout } from "@parley/orders/checkout.ts";
import { expect, onTestFinished, test } from "vitest";
import { services } from "../../services/all.ts";
import { query, type Shop } from "../suite.ts";
import { checks } from "./checks.ts";
import { takeSnapshot } from "./snapshot.ts";

const leaseMs = 1_000;
/** How many cases run at once, each with an orders process of its own. */
const atOnce = 8;

interface Case {
  readonly step: string;
  readonly when: "before" | "after";
  readonly fault: "killed" | "frozen";
}

const forward = checkout.map(({ step }) => step);
const compensations = [...new Set(checkout.map(({ compensation }) => compensation))];
const cases = [...forward, ...compensations].flatMap((step) =>
  (["before", "after"] as const).flatMap((when) => (["killed", "frozen"] as const).map((fault): Case => ({ step, when, fault }))),
);

test("wherever the checkout is killed, or frozen while its order is cancelled, each order ends right", { timeout: 180_000 }, async () => {
  const shop = await openShop();
  const waiting = [...cases];
  const failed: string[] = [];
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) {
        const name = `${one.fault} ${one.when} ${one.step}`;
        await shop.run(one, name).catch((error: unknown) => failed.push(`${name}: ${error}`));
      }
    }),
  );
  expect(failed).toEqual([]);
  await shop.assertRight();
});

/** All services but orders in this process, one orders process that nothing happens to, and one for each case. */
async function openShop() {
  const dataDir = makeDataDir();
  onTestFinished(() => rmSync(dataDir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }));
  const names = ["catalog", "inventory", "carts", "payments", "notifications", "orders"];
  const components = await Promise.all(names.map((name) => services[name]!()));
  const { log } = createTestLog();
  const replicas = new Map([["orders", atOnce + 1]]);
  const databases = await startEmbeddedDatabases(components, { env: {}, dataDir, log, replicas });
  onTestFinished(() => databases.stop());
  const keys = await ensureLocalKeys(components, { env: {}, dataDir });
  const basePort = await findFreePorts(60);
  const places = names.map((name, index) => ({ name, port: basePort + index }));
  const common = { ...localTargets(places, "127.0.0.1"), ...databases.env, ...keys, PARLEY_DATA_DIR: dataDir, PARLEY_LOG_LEVEL: "silent" };
  const portOf = (name: string): number => basePort + names.indexOf(name);
  const others = await startProcess(components.slice(0, -1), {
    ...common,
    PARLEY_GRPC_BASE_PORT: String(basePort),
    PARLEY_ADMIN_BASE_PORT: String(basePort + 10),
  });
  onTestFinished(() => others.stop());

  const carts = createClient(CartsService, openTestTransport([portOf("carts")]));
  const ordersAt = (port: number) => createClient(OrdersService, openTestTransport([port]));
  const free = Array.from({ length: atOnce }, (_, index) => basePort + 12 + index * 2);
  const expected = new Map<string, Record<string, number>>();

  async function startOrders(port: number, adminPort: number, ...args: string[]): Promise<ChildProcess> {
    const child = fork(join(import.meta.dirname, "orders-process.ts"), [...args, String(leaseMs)], {
      execArgv: [],
      env: { ...process.env, ...common, PARLEY_GRPC_BASE_PORT: String(port), PARLEY_ADMIN_BASE_PORT: String(adminPort) },
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    await once(child, "message");
    return child;
  }

  const [stock] = await query<{ onHand: number }>(
    dataDir,
    "inventory",
    `SELECT on_hand::float8 AS "onHand" FROM stock WHERE product_id = 'bird-feeder'`,
  );

  await startOrders(portOf("orders"), basePort + 11, "no step", "ever");
  const survivor = ordersAt(portOf("orders"));

  async function place(customerId: string, port: number, options: CallOptions): Promise<string> {
    const { cart } = await carts.addItem({ productId: "bird-feeder", quantity: 2, requestId: randomUUID() }, options);
    expected.set(customerId, { "bird-feeder": cart!.lines[0]!.quantity });
    const { order } = await ordersAt(port).placeOrder(
      {
        requestId: randomUUID(),
        cartEtag: cart!.etag,
        shippingAddress: { name: "A", street: "B 1", postalCode: "1", city: "C", countryCode: "DE", email: "a@example.org" },
        paymentToken: "tok_approved",
        expectedTotal: cart!.total!,
      },
      options,
    );
    return order!.orderId;
  }

  async function run(one: Case, customerId: string): Promise<void> {
    const port = free.shift()!;
    await runAt(port, one, customerId).finally(() => free.push(port));
  }

  async function runAt(port: number, { step, when, fault }: Case, customerId: string): Promise<void> {
    const token = await signUserToken(localUsersKey(dataDir), {
      subject: customerId,
      roles: ["customer"],
      issuer: "parley",
      audience: "parley",
      seconds: 600,
    });
    const options = { headers: { authorization: `Bearer ${token}` } };
    const child = await startOrders(port, port + 1, step, when);
    const isUndoing = compensations.some((compensation) => compensation === step);
    const stateOf = async (orderId: string): Promise<OrderState> => (await survivor.getOrder({ orderId }, options)).order!.state;
    const stopped = new Promise<string>((resolve) => child.on("message", ({ stoppedAt }: { stoppedAt: string }) => resolve(stoppedAt)));
    // Any process may take up a cancelled order, not only that which stops: then once more.
    let reached: string | undefined;
    while (reached === undefined) {
      const placing = place(customerId, port, options).catch(() => undefined); // its answer may die with the process
      if (!isUndoing) {
        // The order may not be placed, or another process may take it up.
        const ended = placing.then(async (orderId) => {
          if (orderId !== undefined) await eventually(async () => expect(await stateOf(orderId)).toBe(OrderState.CONFIRMED));
          return undefined;
        });
        reached = await Promise.race([stopped, ended]);
      } else {
        const orderId = await placing;
        if (orderId === undefined) throw new Error("the order was not placed");
        await eventually(async () => expect(await stateOf(orderId)).toBe(OrderState.CONFIRMED));
        expected.set(customerId, {});
        await eventually(async () => expect((await carts.getCart({}, options)).cart!.lines).toEqual([]));
        void ordersAt(port)
          .cancelOrder({ orderId }, options)
          .catch(() => {});
        const ended = eventually(async () => expect(await stateOf(orderId)).toBe(OrderState.CANCELLED)).then(() => undefined);
        reached = await Promise.race([stopped, ended]);
      }
    }
    const orderId = reached;
    if (fault === "killed") {
      child.kill("SIGKILL");
      const end = isUndoing ? OrderState.CANCELLED : OrderState.CONFIRMED;
      await eventually(async () => expect(await stateOf(orderId)).toBe(end));
      expected.set(customerId, {});
    } else {
      child.kill("SIGSTOP");
      await survivor.cancelOrder({ orderId }, options);
      await eventually(async () => expect(await stateOf(orderId)).toBe(OrderState.CANCELLED));
      child.kill("SIGCONT");
      child.send("go on"); // with what it was about to do, too late
      const exited = once(child, "exit");
      child.send("stop");
      await exited;
    }
  }

  const at: Pick<Shop, "query"> = { query: (serviceName, statement) => query(dataDir, serviceName, statement) };
  return {
    run,
    async assertRight(): Promise<void> {
      await eventually(async () => {
        const snapshot = await takeSnapshot(at, { told: [], putIn: { "bird-feeder": stock!.onHand }, carts: expected });
        expect(Object.entries(checks).flatMap(([name, check]) => check(snapshot).map((text) => `${name}: ${text}`))).toEqual([]);
      });
    },
  };
}
