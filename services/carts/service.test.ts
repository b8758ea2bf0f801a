import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { asService, asUser } from "@parley/chassis/testing/auth.ts";
import { openTestDatabase } from "@parley/chassis/testing/database.ts";
import { failureOf, reasonOf } from "@parley/chassis/testing/failure.ts";
import { createNeighbour, openTestServer, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { BadRequestSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { CatalogService, ProductState } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { EventSchema } from "@parley/gen/parley/events/v1/events_pb.js";
import { OrderConfirmedSchema } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { expect, test } from "vitest";
import { eventHandlers } from "./consumer.ts";
import { createHandlers } from "./handlers.ts";
import { cartsDatabase } from "./service.ts";

/** A catalog that sells whatever is asked for, but for `unknown`, at prices that the test sets. */
async function openCarts() {
  const database = await openTestDatabase(cartsDatabase);
  const prices = new Map<string, { currencyCode: string; minorUnits: bigint }>();
  const archived = new Set<string>();
  const catalog = createNeighbour(CatalogService, {
    batchGetProducts: ({ productIds }) => ({
      products: productIds
        .filter((productId) => productId !== "unknown")
        .map((productId) => ({
          productId,
          title: `The ${productId}`,
          price: prices.get(productId) ?? { currencyCode: "EUR", minorUnits: 100n },
          state: archived.has(productId) ? ProductState.ARCHIVED : ProductState.ACTIVE,
        })),
    }),
  });
  const handlers = createHandlers({ database, catalog: createClient(CatalogService, catalog) });
  const { port } = await openTestServer([implement(CartsService, handlers)]);
  const client = createClient(CartsService, openTestTransport([port]));
  const alice = await asUser("alice", "customer");
  const add = async (productId: string, quantity = 1, requestId: string = randomUUID()) =>
    (await client.addItem({ productId, quantity, requestId }, alice)).cart!;
  const get = async (as = alice) => (await client.getCart({}, as)).cart!;
  const contentsOf = ({ lines }: { lines: { productId: string; quantity: number }[] }) =>
    Object.fromEntries(lines.map((line) => [line.productId, line.quantity]));
  return { database, client, alice, add, get, contentsOf, prices, archived };
}

test("a cart that was never changed is empty", async () => {
  const { get } = await openCarts();
  expect(await get()).toMatchObject({ customerId: "alice", lines: [], etag: "0" });
  expect((await get()).total).toBeUndefined();
});

test("what is added is there with its title and price, in the order in which it came, and summed", async () => {
  const { add, get, prices } = await openCarts();
  prices.set("lamp", { currencyCode: "EUR", minorUnits: 4_999n });
  await add("lamp", 2);
  await add("bowl", 1);
  const cart = await add("lamp", 1);
  expect(cart).toEqual(await get());
  expect(cart.lines).toMatchObject([
    {
      productId: "lamp",
      title: "The lamp",
      quantity: 3,
      price: { currencyCode: "EUR", minorUnits: 4_999n },
      isPriceChanged: false,
      isAvailable: true,
    },
    { productId: "bowl", title: "The bowl", quantity: 1 },
  ]);
  expect(cart.total).toMatchObject({ currencyCode: "EUR", minorUnits: 3n * 4_999n + 100n });
  expect(cart.updateTime).toBeDefined();
});

test("a quantity is set, a line removed, and the cart emptied", async () => {
  const { client, alice, add, contentsOf } = await openCarts();
  await add("lamp", 2);
  await add("bowl");
  expect(contentsOf((await client.setItemQuantity({ productId: "lamp", quantity: 9 }, alice)).cart!)).toEqual({ lamp: 9, bowl: 1 });
  expect(contentsOf((await client.setItemQuantity({ productId: "kite", quantity: 2 }, alice)).cart!)).toEqual({
    lamp: 9,
    bowl: 1,
    kite: 2,
  });
  expect(contentsOf((await client.removeItem({ productId: "bowl" }, alice)).cart!)).toEqual({ lamp: 9, kite: 2 });
  expect(contentsOf((await client.removeItem({ productId: "bowl" }, alice)).cart!)).toEqual({ lamp: 9, kite: 2 });
  expect(contentsOf((await client.clearCart({}, alice)).cart!)).toEqual({});
});

test("a price that changed is shown with the one before, and counts", async () => {
  const { add, get, prices } = await openCarts();
  await add("lamp", 2);
  prices.set("lamp", { currencyCode: "EUR", minorUnits: 150n });
  const cart = await get();
  expect(cart.lines).toMatchObject([{ price: { minorUnits: 150n }, priceWhenAdded: { minorUnits: 100n }, isPriceChanged: true }]);
  expect(cart.total).toMatchObject({ minorUnits: 300n });
});

test("what was archived since stays in the cart, is told, and does not count", async () => {
  const { add, get, archived } = await openCarts();
  await add("lamp");
  await add("bowl");
  archived.add("lamp");
  const cart = await get();
  expect(cart.lines.map(({ isAvailable }) => isAvailable)).toEqual([false, true]);
  expect(cart.total).toMatchObject({ minorUnits: 100n });
});

test("a cart in two currencies has no total", async () => {
  const { add, prices } = await openCarts();
  prices.set("lamp", { currencyCode: "USD", minorUnits: 1n });
  await add("bowl");
  expect((await add("lamp")).total).toBeUndefined();
});

test("what cannot be bought is refused", async () => {
  const { client, alice, add, archived, get } = await openCarts();
  archived.add("lamp");
  expect(await reasonOf(add("unknown"))).toEqual([Code.NotFound, "PRODUCT_NOT_FOUND"]);
  expect(await reasonOf(add("lamp"))).toEqual([Code.FailedPrecondition, "PRODUCT_IS_ARCHIVED"]);
  expect(await reasonOf(client.setItemQuantity({ productId: "unknown", quantity: 1 }, alice))).toEqual([
    Code.NotFound,
    "PRODUCT_NOT_FOUND",
  ]);
  expect((await get()).lines).toEqual([]);
});

test("a cart has at most 100 lines, and 99 of a product", async () => {
  const { client, alice, add } = await openCarts();
  for (let number = 0; number < 100; number++) await add(`product-${number}`);
  expect(await reasonOf(add("one-more"))).toEqual([Code.FailedPrecondition, "TOO_MANY_LINES"]);
  expect(await reasonOf(client.setItemQuantity({ productId: "one-more", quantity: 1 }, alice))).toEqual([
    Code.FailedPrecondition,
    "TOO_MANY_LINES",
  ]);
  expect((await add("product-5", 98)).lines[5]?.quantity).toBe(99);
  expect(await reasonOf(add("product-5"))).toEqual([Code.FailedPrecondition, "TOO_MANY_OF_PRODUCT"]);
});

test("a request that is sent twice adds once; so does one that is sent many times at once", async () => {
  const { add, contentsOf, get } = await openCarts();
  const requestId = randomUUID();
  const first = await add("lamp", 2, requestId);
  expect(await add("lamp", 2, requestId.toUpperCase())).toEqual(first);
  const other = randomUUID();
  await Promise.all(Array.from({ length: 10 }, () => add("bowl", 3, other)));
  expect(contentsOf(await get())).toEqual({ lamp: 2, bowl: 3 });
});

test("edits at once lose nothing, not even the first of a cart", async () => {
  const { client, alice, add, contentsOf, get } = await openCarts();
  await Promise.all([
    ...Array.from({ length: 30 }, () => add("lamp")),
    ...Array.from({ length: 20 }, (_, number) => add(`product-${number}`)),
    client.removeItem({ productId: "nothing" }, alice),
  ]);
  const contents = contentsOf(await get());
  expect(contents["lamp"]).toBe(30);
  expect(Object.keys(contents)).toHaveLength(21);
});

test("an edit with the etag of a cart that was changed since is refused", async () => {
  const { client, alice, add, get } = await openCarts();
  const before = await add("lamp");
  const after = await add("bowl");
  expect(after.etag).not.toBe(before.etag);
  const { etag } = before;
  for (const call of [
    () => client.addItem({ productId: "lamp", quantity: 1, requestId: randomUUID(), etag }, alice),
    () => client.setItemQuantity({ productId: "lamp", quantity: 2, etag }, alice),
    () => client.removeItem({ productId: "lamp", etag }, alice),
    () => client.clearCart({ etag }, alice),
  ])
    expect(await reasonOf(call())).toEqual([Code.Aborted, "ETAG_MISMATCH"]);
  expect(await get()).toEqual(after);
});

test("an edit with an etag that is sent twice has the same answer twice", async () => {
  const { client, alice, add } = await openCarts();
  await add("bowl");
  const { etag } = await add("lamp");
  const requestId = randomUUID();
  const edits = [
    () => client.addItem({ productId: "lamp", quantity: 1, requestId, etag }, alice),
    ({ etag }: { etag: string }) => client.setItemQuantity({ productId: "lamp", quantity: 9, etag }, alice),
    ({ etag }: { etag: string }) => client.removeItem({ productId: "lamp", etag }, alice),
    ({ etag }: { etag: string }) => client.clearCart({ etag }, alice),
  ];
  let cart = { etag };
  for (const edit of edits) {
    const first = await edit(cart);
    expect(await edit(cart)).toEqual(first);
    expect(first.cart!.etag).not.toBe(cart.etag);
    cart = first.cart!;
  }
});

test("an edit that changes nothing leaves the cart as it is, also one that was never changed", async () => {
  const { client, alice, add, get } = await openCarts();
  const before = await get();
  expect((await client.removeItem({ productId: "lamp" }, alice)).cart).toEqual(before);
  expect((await client.clearCart({}, alice)).cart).toEqual(before);
  const lamp = await add("lamp", 2);
  expect((await client.setItemQuantity({ productId: "lamp", quantity: 2 }, alice)).cart).toEqual(lamp);
});

test("a repeat of what was added is answered though the product is sold no more; other contents are refused", async () => {
  const { client, alice, add, archived } = await openCarts();
  const requestId = randomUUID();
  const { etag } = await add("lamp", 2, requestId);
  archived.add("lamp");
  expect((await add("lamp", 2, requestId)).etag).toBe(etag);
  for (const other of [
    { productId: "lamp", quantity: 3 },
    { productId: "bowl", quantity: 2 },
  ])
    expect(await reasonOf(client.addItem({ ...other, requestId }, alice))).toEqual([Code.AlreadyExists, "REQUEST_MISMATCH"]);
});

test("the last 50 requests of a cart are remembered", async () => {
  const { database, add } = await openCarts();
  const ids = Array.from({ length: 55 }, () => randomUUID());
  for (const requestId of ids) await add("lamp", 1, requestId);
  const rows = await database.db.selectFrom("cart_request").select("request_id").execute();
  expect(rows.map(({ request_id: id }) => id).toSorted()).toEqual(ids.slice(5).toSorted());
});

test("an etag never returns, though the contents do", async () => {
  const { client, alice, add } = await openCarts();
  const etags = new Set<string>();
  for (let round = 0; round < 5; round++) {
    etags.add((await add("lamp")).etag);
    etags.add((await client.clearCart({}, alice)).cart!.etag);
  }
  expect(etags.size).toBe(10);
});

/** What the consumer does when it reads that alice's order of this was confirmed. */
async function takeOrdered(database: Awaited<ReturnType<typeof openCarts>>["database"], quantities: Record<string, number>): Promise<void> {
  const lines = Object.entries(quantities).map(([productId, quantity]) => ({ productId, quantity }));
  const payload = anyPack(OrderConfirmedSchema, create(OrderConfirmedSchema, { order: { customerId: "alice", lines } }));
  const event = create(EventSchema, { type: OrderConfirmedSchema.typeName, payload });
  const handler = eventHandlers.find(({ type }) => type === event.type);
  await database.transaction(async (tx) => handler?.handle(tx, event));
}

test("what was ordered is taken out of the cart, never below zero, and the etag changes", async () => {
  const { database, add, get, contentsOf } = await openCarts();
  await add("lamp", 3);
  await add("bowl", 2);
  await add("kite", 1);
  const before = await add("vase", 5);
  await takeOrdered(database, { lamp: 2, bowl: 2, kite: 7, gone: 1 });
  const after = await get();
  expect(contentsOf(after)).toEqual({ lamp: 1, vase: 5 });
  expect(after.etag).not.toBe(before.etag);
  await takeOrdered(database, { gone: 1 });
  expect(contentsOf(await get())).toEqual({ lamp: 1, vase: 5 });
  expect((await get()).etag).not.toBe(after.etag); // an etag that was ordered from is used up
});

test("what was ordered is taken out of a cart once, while its customer changes it", async () => {
  const { database, client, alice, add, get, contentsOf } = await openCarts();
  await add("lamp", 50);
  await Promise.all([
    ...Array.from({ length: 5 }, () => add("lamp", 2)),
    ...Array.from({ length: 5 }, () => takeOrdered(database, { lamp: 3 })),
    client.setItemQuantity({ productId: "bowl", quantity: 4 }, alice),
  ]);
  expect(contentsOf(await get())).toEqual({ lamp: 45, bowl: 4 });
});

test("the cart of a customer of whom nothing was known gets an etag", async () => {
  const { database, get } = await openCarts();
  await takeOrdered(database, { lamp: 1 });
  expect(await get()).toMatchObject({ lines: [], etag: expect.not.stringMatching(/^0$/) });
});

test("a customer reaches their own cart alone; a service names whose", async () => {
  const { client, add, get, contentsOf } = await openCarts();
  await add("lamp");
  const bob = await asUser("bob", "customer");
  expect((await get(bob)).lines).toEqual([]);
  expect(await failureOf(client.getCart({ customerId: "alice" }, bob))).toMatchObject({ code: Code.PermissionDenied });
  const service = await asService();
  expect(contentsOf((await client.getCart({ customerId: "alice" }, service)).cart!)).toEqual({ lamp: 1 });
  expect(await failureOf(client.getCart({}, service))).toMatchObject({ code: Code.InvalidArgument });
  await client.clearCart({ customerId: "alice" }, service);
  expect((await get()).lines).toEqual([]);
});

test("nobody without a token has a cart, nor has staff", async () => {
  const { client } = await openCarts();
  const staff = await asUser("eve", "staff");
  const item = { productId: "lamp", quantity: 1 };
  for (const call of [
    (options?: typeof staff) => client.getCart({}, options),
    (options?: typeof staff) => client.addItem({ ...item, requestId: randomUUID() }, options),
    (options?: typeof staff) => client.setItemQuantity(item, options),
    (options?: typeof staff) => client.removeItem(item, options),
    (options?: typeof staff) => client.clearCart({}, options),
  ]) {
    expect(await failureOf(call())).toMatchObject({ code: Code.Unauthenticated });
    expect(await failureOf(call(staff))).toMatchObject({ code: Code.PermissionDenied });
  }
});

type Options = Awaited<ReturnType<typeof asUser>>;
const requestId = randomUUID();
const long = "x".repeat(201);

test.each<[string, string, (client: Client<typeof CartsService>, alice: Options) => Promise<unknown>]>([
  ["a customer too long to get", "customer_id", (client, alice) => client.getCart({ customerId: long }, alice)],
  ["a customer with NUL", "customer_id", (client, alice) => client.getCart({ customerId: "a\0b" }, alice)],
  ["no product to add", "product_id", (client, alice) => client.addItem({ quantity: 1, requestId }, alice)],
  ["0 to add", "quantity", (client, alice) => client.addItem({ productId: "lamp", requestId }, alice)],
  ["100 to add", "quantity", (client, alice) => client.addItem({ productId: "lamp", quantity: 100, requestId }, alice)],
  ["no request_id", "request_id", (client, alice) => client.addItem({ productId: "lamp", quantity: 1 }, alice)],
  ["an etag too long", "etag", (client, alice) => client.addItem({ productId: "lamp", quantity: 1, requestId, etag: long }, alice)],
  ["a product that is no slug", "product_id", (client, alice) => client.setItemQuantity({ productId: "A B", quantity: 1 }, alice)],
  ["a quantity of 0", "quantity", (client, alice) => client.setItemQuantity({ productId: "lamp" }, alice)],
  ["a quantity of -1", "quantity", (client, alice) => client.setItemQuantity({ productId: "lamp", quantity: -1 }, alice)],
  ["no product to remove", "product_id", (client, alice) => client.removeItem({}, alice)],
  ["an etag to clear too long", "etag", (client, alice) => client.clearCart({ etag: long }, alice)],
])("%s is refused", async (_title, field, call) => {
  const { client, alice } = await openCarts();
  const error = await failureOf(call(client, alice));
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations.map((violation) => violation.field)).toEqual([field]);
});
