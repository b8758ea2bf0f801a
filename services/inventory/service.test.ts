import { randomUUID } from "node:crypto";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { asService, asUser } from "@parley/chassis/testing/auth.ts";
import { openTestDatabase } from "@parley/chassis/testing/database.ts";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { failureOf } from "@parley/chassis/testing/failure.ts";
import { createTestLog, openTestServer, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { BadRequestSchema, ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { InventoryService, ReservationState as State } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { sql } from "kysely";
import { expect, onTestFinished, test } from "vitest";
import { startExpiry } from "./expiry.ts";
import { createHandlers } from "./handlers.ts";
import { inventoryDatabase } from "./service.ts";
import { createStore } from "./store.ts";

async function openInventory() {
  const database = await openTestDatabase(inventoryDatabase);
  const { port } = await openTestServer([implement(InventoryService, createHandlers({ database }))]);
  const client = createClient(InventoryService, openTestTransport([port]));
  const service = await asService();
  const staff = await asUser("bob", "staff");
  const stockOf = async (productId: string) => {
    const { stock } = await client.getStock({ productId });
    return [Number(stock!.onHand), Number(stock!.reserved), Number(stock!.available)];
  };
  const reserve = async (lines: Record<string, number>, reservationId = randomUUID() as string) => {
    const request = {
      reservationId,
      lines: Object.entries(lines).map(([productId, quantity]) => ({ productId, quantity: BigInt(quantity) })),
    };
    return (await client.reserve(request, service)).reservation!;
  };
  const commit = async (reservationId: string) => (await client.commitReservation({ reservationId }, service)).reservation!;
  const release = async (reservationId: string) => (await client.releaseReservation({ reservationId }, service)).reservation!;
  return { database, client, service, staff, stockOf, reserve, commit, release };
}

function expireReservations({ database }: Pick<Awaited<ReturnType<typeof openInventory>>, "database">) {
  const worker = startExpiry({ database, log: createTestLog().log });
  onTestFinished(() => worker.stop());
}

test("a worker that has lost its lease expires nothing", async () => {
  const { database, client, staff, stockOf, reserve } = await openInventory();
  await client.setStock({ productId: "a", onHand: 5n }, staff);
  const { reservationId } = await reserve({ a: 3 });
  await sql`UPDATE reservation SET attempt = 2`.execute(database.db);
  await database.transaction((tx) => createStore(tx).expire({ key: reservationId, attempt: 1 }));
  expect(await stockOf("a")).toEqual([5, 3, 2]);
  await database.transaction((tx) => createStore(tx).expire({ key: reservationId, attempt: 2 }));
  expect(await stockOf("a")).toEqual([5, 0, 5]);
});

test("a shop that was just started has stock of 64 products", async () => {
  const { database, stockOf } = await openInventory();
  expect(await database.db.selectFrom("stock").select("product_id").execute()).toHaveLength(64);
  const [onHand, reserved, available] = await stockOf("kite");
  expect(onHand).toBeGreaterThan(0);
  expect([reserved, available]).toEqual([0, onHand]);
});

test("stock comes in the order of the ids, once each, without what is not known", async () => {
  const { client } = await openInventory();
  const { stock } = await client.batchGetStock({ productIds: ["tin-robot", "nothing", "kite", "tin-robot"] });
  expect(stock.map(({ productId }) => productId)).toEqual(["tin-robot", "kite"]);
  expect(await failureOf(client.getStock({ productId: "nothing" }))).toMatchObject({ code: Code.NotFound });
});

test("staff sets stock, of new products too, but not below what is reserved", async () => {
  const { client, staff, stockOf, reserve } = await openInventory();
  await client.setStock({ productId: "new-thing", onHand: 5n }, staff);
  await client.setStock({ productId: "new-thing", onHand: 5n }, staff);
  await reserve({ "new-thing": 3 });
  expect(await stockOf("new-thing")).toEqual([5, 3, 2]);
  await client.setStock({ productId: "new-thing", onHand: 3n }, staff);
  const error = await failureOf(client.setStock({ productId: "new-thing", onHand: 2n }, staff));
  expect(error.code).toBe(Code.FailedPrecondition);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "STOCK_IS_RESERVED" }]);
  expect(await stockOf("new-thing")).toEqual([3, 3, 0]);
});

test("a delivery is added once, however often it is told, also at once", async () => {
  const { client, staff, stockOf } = await openInventory();
  const request = { productId: "new-thing", quantity: 7n, requestId: randomUUID() };
  await Promise.all(Array.from({ length: 10 }, () => client.restock(request, staff)));
  await client.restock({ ...request, requestId: randomUUID() }, staff);
  expect(await stockOf("new-thing")).toEqual([14, 0, 14]);
  for (const other of [
    { ...request, quantity: 8n },
    { ...request, productId: "kite" },
  ]) {
    const error = await failureOf(client.restock(other, staff));
    expect(error.code).toBe(Code.AlreadyExists);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "REQUEST_MISMATCH" }]);
  }
});

test("what is held is reserved, what is committed is gone, and what is released is back", async () => {
  const { client, staff, stockOf, reserve, commit, release } = await openInventory();
  await client.setStock({ productId: "a", onHand: 10n }, staff);
  const { reservationId, state, expireTime } = await reserve({ a: 4 });
  expect(state).toBe(State.HELD);
  expect(Number(expireTime!.seconds) - Date.now() / 1000).toBeGreaterThan(14 * 60);
  expect(await stockOf("a")).toEqual([10, 4, 6]);
  expect((await commit(reservationId)).state).toBe(State.COMMITTED);
  expect(await stockOf("a")).toEqual([6, 0, 6]);
  expect((await release(reservationId)).state).toBe(State.RELEASED);
  expect(await stockOf("a")).toEqual([10, 0, 10]);
  const held = await reserve({ a: 10 });
  expect((await release(held.reservationId)).state).toBe(State.RELEASED);
  expect(await stockOf("a")).toEqual([10, 0, 10]);
});

test("lines with the same product are summed", async () => {
  const { client, staff, service, stockOf } = await openInventory();
  await client.setStock({ productId: "a", onHand: 5n }, staff);
  const lines = [1n, 1n, 2n].map((quantity) => ({ productId: "a", quantity }));
  const { reservation } = await client.reserve({ reservationId: randomUUID(), lines }, service);
  expect(reservation!.lines).toMatchObject([{ productId: "a", quantity: 4n }]);
  expect(await stockOf("a")).toEqual([5, 4, 1]);
});

test("all lines are kept, or none: a reservation that is refused says of what there was too little", async () => {
  const { client, staff, stockOf, reserve } = await openInventory();
  await client.setStock({ productId: "a", onHand: 5n }, staff);
  await client.setStock({ productId: "b", onHand: 1n }, staff);
  const refused = await reserve({ a: 5, b: 2, unknown: 1 });
  expect(refused).toMatchObject({ state: State.REFUSED, shortProductIds: ["b", "unknown"] });
  expect([await stockOf("a"), await stockOf("b")]).toEqual([
    [5, 0, 5],
    [1, 0, 1],
  ]);
});

test("a repeat gets the first answer, a refusal too, and the same id with other lines is refused", async () => {
  const { client, staff, service, stockOf, reserve, commit } = await openInventory();
  await client.setStock({ productId: "a", onHand: 5n }, staff);
  const [held, refused] = [await reserve({ a: 3 }), await reserve({ a: 3 })];
  expect(refused.state).toBe(State.REFUSED);
  await client.setStock({ productId: "a", onHand: 50n }, staff);
  expect(await reserve({ a: 3 }, held.reservationId)).toEqual(held);
  expect(await reserve({ a: 3 }, refused.reservationId)).toEqual(refused);
  expect(await stockOf("a")).toEqual([50, 3, 47]);
  const lines = [{ productId: "a", quantity: 4n }];
  const error = await failureOf(client.reserve({ reservationId: held.reservationId, lines }, service));
  expect(error.code).toBe(Code.AlreadyExists);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "REQUEST_MISMATCH" }]);
  const committed = await commit(held.reservationId);
  expect(await commit(held.reservationId)).toEqual(committed);
  expect((await reserve({ a: 3 }, held.reservationId)).state).toBe(State.COMMITTED);
  expect(await stockOf("a")).toEqual([47, 0, 47]);
});

test("one reservation that is asked for many times at once is made once", async () => {
  const { client, staff, stockOf, reserve } = await openInventory();
  await client.setStock({ productId: "a", onHand: 100n }, staff);
  const reservationId = randomUUID();
  const answers = await Promise.all(Array.from({ length: 20 }, () => reserve({ a: 3 }, reservationId)));
  expect(new Set(answers.map(({ state }) => state))).toEqual(new Set([State.HELD]));
  expect(await stockOf("a")).toEqual([100, 3, 97]);
});

test("what has ended is not committed; releasing it again changes nothing", async () => {
  const { client, staff, service, stockOf, reserve, release } = await openInventory();
  await client.setStock({ productId: "a", onHand: 5n }, staff);
  const { reservationId } = await reserve({ a: 3 });
  const released = await release(reservationId);
  expect(await release(reservationId)).toEqual(released);
  const refused = await reserve({ a: 9 });
  expect(await release(refused.reservationId)).toEqual(refused);
  for (const [id, state] of [
    [reservationId, "RELEASED"],
    [refused.reservationId, "REFUSED"],
  ]) {
    const error = await failureOf(client.commitReservation({ reservationId: id! }, service));
    expect(error.code).toBe(Code.FailedPrecondition);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "RESERVATION_ENDED", metadata: { state } }]);
  }
  expect(await failureOf(client.commitReservation({ reservationId: randomUUID() }, service))).toMatchObject({ code: Code.NotFound });
  expect(await stockOf("a")).toEqual([5, 0, 5]);
});

test("an id that is released before it is seen keeps nothing later", async () => {
  const { client, staff, stockOf, reserve, release } = await openInventory();
  await client.setStock({ productId: "a", onHand: 5n }, staff);
  const reservationId = randomUUID();
  expect((await release(reservationId)).state).toBe(State.RELEASED);
  expect((await reserve({ a: 3 }, reservationId)).state).toBe(State.RELEASED);
  expect(await stockOf("a")).toEqual([5, 0, 5]);
});

test("a reservation that is held too long expires by itself, and a repeat never reserves again", async () => {
  const { database, client, staff, stockOf, reserve } = await openInventory();
  await client.setStock({ productId: "a", onHand: 5n }, staff);
  const { reservationId } = await reserve({ a: 3 });
  const other = await reserve({ a: 1 });
  await sql`UPDATE reservation SET due_at = now(), expire_time = now() WHERE reservation_id = ${reservationId}`.execute(database.db);
  expireReservations({ database });
  await eventually(async () => expect(await stockOf("a")).toEqual([5, 1, 4]));
  expect((await reserve({ a: 3 }, reservationId)).state).toBe(State.EXPIRED);
  expect((await reserve({ a: 1 }, other.reservationId)).state).toBe(State.HELD);
  expect(await stockOf("a")).toEqual([5, 1, 4]);
});

test("the state decides, not the clock: what is over its time may be committed until it has expired", async () => {
  const { database, client, staff, stockOf, reserve, commit } = await openInventory();
  await client.setStock({ productId: "a", onHand: 5n }, staff);
  const { reservationId } = await reserve({ a: 3 });
  await sql`UPDATE reservation SET due_at = now(), expire_time = now() WHERE reservation_id = ${reservationId}`.execute(database.db);
  expect((await commit(reservationId)).state).toBe(State.COMMITTED);
  const late = await reserve({ a: 1 });
  await sql`UPDATE reservation SET due_at = now() WHERE reservation_id = ${late.reservationId}`.execute(database.db);
  expireReservations({ database });
  await eventually(async () => expect(await stockOf("a")).toEqual([2, 0, 2]));
  expect((await reserve({ a: 3 }, reservationId)).state).toBe(State.COMMITTED);
});

test("64 buyers at once of the last items never buy more than there are, whatever else they buy, with no deadlock", async () => {
  const { database, client, staff, reserve, commit, release, stockOf } = await openInventory();
  const products = ["a", "b", "c", "d", "e"];
  for (const productId of products) await client.setStock({ productId, onHand: 20n }, staff);
  const seed = Math.floor(Math.random() * 2 ** 31);
  process.stdout.write(`seed ${seed}\n`);
  let state = seed;
  const random = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
  const bought: Record<string, number> = Object.fromEntries(products.map((product) => [product, 0]));
  await Promise.all(
    Array.from({ length: 64 }, async () => {
      for (let round = 0; round < 3; round++) {
        const wanted = Object.fromEntries(
          products
            .toSorted(() => random(3) - 1)
            .slice(0, 1 + random(4))
            .map((product) => [product, 1 + random(2)]),
        );
        const { reservationId, state: end } = await reserve(wanted);
        if (end === State.REFUSED) continue;
        if (random(3) === 0) await release(reservationId);
        else {
          await commit(reservationId);
          for (const [product, quantity] of Object.entries(wanted)) bought[product]! += quantity;
        }
      }
    }),
  );
  for (const product of products) expect(await stockOf(product)).toEqual([20 - bought[product]!, 0, 20 - bought[product]!]);
  expect(Math.min(...products.map((product) => 20 - bought[product]!))).toBeLessThan(4);
  const { rows } = await sql<{ deadlocks: bigint }>`SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`.execute(
    database.db,
  );
  expect(rows[0]!.deadlocks).toBe(0n);
});

test("the database itself lets no stock be oversold", async () => {
  const { database } = await openInventory();
  await expect(sql`UPDATE stock SET reserved = on_hand + 1`.execute(database.db)).rejects.toThrow(/stock_not_oversold/);
  await expect(sql`UPDATE stock SET on_hand = -1`.execute(database.db)).rejects.toThrow(/stock_not_oversold/);
  await expect(sql`UPDATE stock SET reserved = -1`.execute(database.db)).rejects.toThrow(/violates check constraint/);
});

test("who watches gets the stock there is, and then the latest state of what has changed", async () => {
  const { client, staff } = await openInventory();
  for (const productId of ["a", "b", "c"]) await client.setStock({ productId, onHand: 1n }, staff);
  const leave = new AbortController();
  const watches = [["a", "b", "unknown"], ["b"]].map((productIds) =>
    client.watchStock({ productIds }, { signal: leave.signal })[Symbol.asyncIterator](),
  );
  const next = async (watch: (typeof watches)[number]) => {
    const { value } = await watch.next();
    return value!.stock.map(({ productId, onHand }: { productId: string; onHand: bigint }) => `${productId}=${onHand}`);
  };
  expect((await next(watches[0]!)).toSorted()).toEqual(["a=1", "b=1"]);
  expect(await next(watches[1]!)).toEqual(["b=1"]);
  await client.setStock({ productId: "c", onHand: 9n }, staff);
  for (const onHand of [2n, 3n, 4n]) await client.setStock({ productId: "b", onHand }, staff);
  const last: Record<string, string> = {};
  for (const [index, watch] of watches.entries()) {
    while (last[index] !== "b=4") [last[index]] = (await next(watch)) as [string];
  }
  leave.abort();
});

test("who has left holds up nobody who watches the same", async () => {
  const { client, staff } = await openInventory();
  await client.setStock({ productId: "a", onHand: 1n }, staff);
  const [leaving, staying] = [new AbortController(), new AbortController()];
  const [one, other] = [leaving, staying].map(({ signal }) => client.watchStock({ productIds: ["a"] }, { signal })[Symbol.asyncIterator]());
  await one!.next();
  await other!.next();
  leaving.abort();
  await client.setStock({ productId: "a", onHand: 2n }, staff);
  expect((await other!.next()).value!.stock).toMatchObject([{ onHand: 2n }]);
  staying.abort();
});

test("anybody may look; stock is for staff, reservations are for services", async () => {
  const { client, service, staff } = await openInventory();
  const id = randomUUID();
  const lines = [{ productId: "kite", quantity: 1n }];
  const forStaff = [
    (options?: typeof staff) => client.setStock({ productId: "kite", onHand: 1n }, options),
    (options?: typeof staff) => client.restock({ productId: "kite", quantity: 1n, requestId: id }, options),
  ];
  const forServices = [
    (options?: typeof staff) => client.reserve({ reservationId: id, lines }, options),
    (options?: typeof staff) => client.commitReservation({ reservationId: id }, options),
    (options?: typeof staff) => client.releaseReservation({ reservationId: id }, options),
  ];
  const alice = await asUser("alice", "customer");
  for (const [calls, others] of [
    [forStaff, [alice, service]],
    [forServices, [alice, staff]],
  ] as const) {
    for (const call of calls) {
      expect(await failureOf(call())).toMatchObject({ code: Code.Unauthenticated });
      for (const other of others) expect(await failureOf(call(other))).toMatchObject({ code: Code.PermissionDenied });
    }
  }
});

type Options = Awaited<ReturnType<typeof asUser>>;
type Call = (client: Client<typeof InventoryService>, as: { staff: Options; service: Options }) => Promise<unknown>;
const id = randomUUID();
const line = { productId: "kite", quantity: 1n };

test.each<[string, string, Call]>([
  ["no id", "product_id", (client) => client.getStock({})],
  ["no ids", "product_ids", (client) => client.batchGetStock({})],
  ["101 ids", "product_ids", (client) => client.batchGetStock({ productIds: Array(101).fill("kite") })],
  ["an id that is no slug", "product_ids[0]", (client) => client.batchGetStock({ productIds: ["A"] })],
  ["stock of no product", "product_id", (client, { staff }) => client.setStock({ onHand: 1n }, staff)],
  ["stock of a number that is left out", "on_hand", (client, { staff }) => client.setStock({ productId: "kite" }, staff)],
  ["stock of -1", "on_hand", (client, { staff }) => client.setStock({ productId: "kite", onHand: -1n }, staff)],
  ["stock beyond all bounds", "on_hand", (client, { staff }) => client.setStock({ productId: "kite", onHand: 2n ** 62n }, staff)],
  ["a delivery of no product", "product_id", (client, { staff }) => client.restock({ quantity: 1n, requestId: id }, staff)],
  ["a delivery of 0", "quantity", (client, { staff }) => client.restock({ productId: "kite", requestId: id }, staff)],
  ["a delivery without an id", "request_id", (client, { staff }) => client.restock({ productId: "kite", quantity: 1n }, staff)],
  ["a reservation without an id", "reservation_id", (client, { service }) => client.reserve({ lines: [line] }, service)],
  ["a reservation of nothing", "lines", (client, { service }) => client.reserve({ reservationId: id }, service)],
  ["101 lines", "lines", (client, { service }) => client.reserve({ reservationId: id, lines: Array(101).fill(line) }, service)],
  [
    "a line of 0",
    "lines[1].quantity",
    (client, { service }) => client.reserve({ reservationId: id, lines: [line, { productId: "kite", quantity: 0n }] }, service),
  ],
  [
    "a line of no product",
    "lines[0].product_id",
    (client, { service }) => client.reserve({ reservationId: id, lines: [{ quantity: 1n }] }, service),
  ],
  ["a hold of 0 s", "hold", (client, { service }) => client.reserve({ reservationId: id, lines: [line], hold: {} }, service)],
  [
    "a hold of 2 days",
    "hold",
    (client, { service }) => client.reserve({ reservationId: id, lines: [line], hold: { seconds: 172_800n } }, service),
  ],
  ["a commit of nothing", "reservation_id", (client, { service }) => client.commitReservation({}, service)],
  ["a release of what is no UUID", "reservation_id", (client, { service }) => client.releaseReservation({ reservationId: "x" }, service)],
  ["a watch of nothing", "product_ids", (client) => Array.fromAsync(client.watchStock({}))],
  ["a watch of 101", "product_ids", (client) => Array.fromAsync(client.watchStock({ productIds: Array(101).fill("kite") }))],
])("%s is refused", async (_title, field, call) => {
  const opened = await openInventory();
  const error = await failureOf(call(opened.client, opened));
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations.map((violation) => violation.field)).toEqual([field]);
});
