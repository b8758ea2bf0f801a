import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createServiceToken } from "@parley/chassis/auth/service-token.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { InventoryService, ReservationState } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { expect, test } from "vitest";
import { optionsFor, partPids, postgresPids, query, type Suite, setStock, shopOf, startSuite } from "./suite.ts";

/** A client of the inventory's own port. */
function inventoryOf(suite: Suite) {
  return createClient(InventoryService, openTestTransport([suite.portOf("inventory")]));
}

test("when Postgres is killed under write load no acknowledged write is lost, and the services recover by themselves", async () => {
  const suite = await startSuite();
  const staff = { ...(await optionsFor(suite, "bob", "staff")), timeoutMs: 2_000 };
  const client = inventoryOf(suite);
  const acknowledged = new Set<string>();
  const unknown = new Set<string>();
  let isOver = false;
  const restock = async (requestId: string): Promise<void> => {
    try {
      await client.restock({ productId: "counted", quantity: 1n, requestId }, staff);
      acknowledged.add(requestId);
      unknown.delete(requestId);
    } catch (error) {
      const failure = ConnectError.from(error);
      expect([Code.Unavailable, Code.DeadlineExceeded]).toContain(failure.code);
      if (failure.findDetails(ErrorInfoSchema)[0]?.reason === "CIRCUIT_OPEN")
        await delay(20); // it was not sent
      else unknown.add(requestId);
    }
  };
  const writers = Array.from({ length: 8 }, async () => {
    while (!isOver) await restock(randomUUID());
  });
  for (let round = 0; round < 3; round++) {
    const before = acknowledged.size;
    await eventually(() => expect(acknowledged.size).toBeGreaterThan(before + 100));
    const [pid] = await postgresPids(suite);
    process.kill(pid!, "SIGKILL");
  }
  const before = acknowledged.size;
  await eventually(() => expect(acknowledged.size).toBeGreaterThan(before + 100));
  isOver = true;
  await Promise.all(writers);
  expect(unknown.size).toBeGreaterThan(0);
  const [counted] = await query<{ on_hand: string; requests: string[] }>(
    suite.dataDir,
    "inventory",
    "SELECT on_hand, (SELECT array_agg(request_id) FROM restock) AS requests FROM stock WHERE product_id = 'counted'",
  );
  const recorded = new Set(counted!.requests);
  expect([...acknowledged].filter((requestId) => !recorded.has(requestId))).toEqual([]);
  expect(Number(counted!.on_hand)).toBe(recorded.size);
  // What was not answered is sent again with its id, and so happens once, whether or not it had happened.
  for (const requestId of [...unknown]) await restock(requestId);
  expect(unknown.size).toBe(0);
  expect((await client.getStock({ productId: "counted" })).stock?.onHand).toBe(BigInt(acknowledged.size));
  expect(await suite.stop()).toBe(0);
});

test("a service that is killed in the midst of transactions leaves none half done; its callers repeat them", async () => {
  const suite = await startSuite({ args: ["--split"] });
  const token = await (await createServiceToken("carts", join(suite.dataDir, "keys/carts.private.json"), "parley"))();
  const client = inventoryOf(suite);
  const states = new Map<string, ReservationState>();
  await setStock(shopOf(suite), { kite: 1_000_000, "tin-robot": 1_000_000 });
  const reserve = async (reservationId: string): Promise<void> => {
    const lines = ["kite", "tin-robot"].map((productId) => ({ productId, quantity: 1n }));
    for (;;) {
      try {
        const { reservation } = await client.reserve(
          { reservationId, lines },
          { headers: { authorization: `Bearer ${token}` }, timeoutMs: 3_000 },
        );
        states.set(reservationId, reservation!.state);
        return;
      } catch (error) {
        expect([Code.Unavailable, Code.DeadlineExceeded]).toContain(ConnectError.from(error).code);
      }
    }
  };
  let isOver = false;
  const buyers = Array.from({ length: 8 }, async () => {
    while (!isOver) await reserve(randomUUID());
  });
  for (let round = 0; round < 3; round++) {
    const before = states.size;
    await eventually(() => expect(states.size).toBeGreaterThan(before + 20));
    const [pid] = await partPids(suite, "inventory");
    process.kill(pid!, "SIGKILL");
  }
  const before = states.size;
  await eventually(() => expect(states.size).toBeGreaterThan(before + 20));
  isOver = true;
  await Promise.all(buyers);
  const held = [...states.values()].filter((state) => state === ReservationState.HELD).length;
  expect(held).toBeGreaterThan(0);
  const [rows] = await query(
    suite.dataDir,
    "inventory",
    `SELECT (SELECT reserved FROM stock WHERE product_id = 'kite') AS kite,
    (SELECT reserved FROM stock WHERE product_id = 'tin-robot') AS robot,
    (SELECT count(*) FROM reservation WHERE state = 'HELD') AS held, (SELECT count(*) FROM reservation) AS all`,
  );
  expect(rows).toEqual({ kite: String(held), robot: String(held), held: String(held), all: String(states.size) });
  expect(await suite.stop()).toBe(0);
});
