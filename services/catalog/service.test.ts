import { type Client, Code, createClient } from "@connectrpc/connect";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { openTestDatabase } from "@parley/chassis/testing/database.ts";
import { failureOf } from "@parley/chassis/testing/failure.ts";
import { openTestServer, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { BadRequestSchema, ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { CatalogService, type Product, ProductOrder, ProductState } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { expect, test } from "vitest";
import { createHandlers } from "./handlers.ts";
import { catalogDatabase } from "./service.ts";
import { createStore } from "./store.ts";

async function openCatalog() {
  const database = await openTestDatabase(catalogDatabase);
  const { port } = await openTestServer([implement(CatalogService, createHandlers(createStore(database)))]);
  return { db: database.db, client: createClient(CatalogService, openTestTransport([port], [CatalogService])) };
}

type Request = Parameters<Client<typeof CatalogService>["listProducts"]>[0];

/** All pages of a list, one after the other. */
async function listAll(client: Client<typeof CatalogService>, request: Request): Promise<Product[]> {
  const products: Product[] = [];
  for (let pageToken = ""; ; ) {
    const page = await client.listProducts({ ...request, pageToken });
    products.push(...page.products);
    if (page.nextPageToken === "") return products;
    pageToken = page.nextPageToken;
  }
}

test("a shop that was just started sells 64 products in 8 categories", async () => {
  const { client } = await openCatalog();
  expect(await listAll(client, {})).toHaveLength(64);
  const { categories } = await client.listCategories({});
  expect(categories.map(({ categoryId }) => categoryId)).toEqual([
    "clothing",
    "food",
    "garden",
    "home",
    "kitchen",
    "office",
    "outdoors",
    "toys",
  ]);
  expect(categories.map(({ productCount }) => productCount)).toEqual(Array(8).fill(8));
});

test("a product is got by its id, with all that it has", async () => {
  const { client } = await openCatalog();
  expect((await client.getProduct({ productId: "kite" })).product).toMatchObject({
    productId: "kite",
    title: "Kite",
    price: { currencyCode: "EUR", minorUnits: 2490n },
    categories: ["toys"],
    imagePath: "/images/kite.webp",
    state: ProductState.ACTIVE,
    etag: "1",
  });
});

test("a product that there is not is told with its id", async () => {
  const { client } = await openCatalog();
  const error = await failureOf(client.getProduct({ productId: "nothing" }));
  expect(error.code).toBe(Code.NotFound);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
    { reason: "PRODUCT_NOT_FOUND", domain: "parley.catalog.v1", metadata: { productId: "nothing" } },
  ]);
});

test("several products come in the order of their ids, once each, without those that there are not", async () => {
  const { client } = await openCatalog();
  const { products } = await client.batchGetProducts({ productIds: ["tin-robot", "nothing", "kite", "tin-robot"] });
  expect(products.map(({ productId }) => productId)).toEqual(["tin-robot", "kite"]);
});

test.each([
  ["title", ProductOrder.UNSPECIFIED, (a: Product, b: Product) => (a.title < b.title ? -1 : 1)],
  ["title", ProductOrder.TITLE, (a: Product, b: Product) => (a.title < b.title ? -1 : 1)],
  [
    "price",
    ProductOrder.PRICE,
    (a: Product, b: Product) => Number(a.price!.minorUnits - b.price!.minorUnits) || (a.productId < b.productId ? -1 : 1),
  ],
  [
    "price, the dearest first",
    ProductOrder.PRICE_DESC,
    (a: Product, b: Product) => Number(b.price!.minorUnits - a.price!.minorUnits) || (a.productId > b.productId ? -1 : 1),
  ],
])("the pages of a list by %s hold each product once, in order, whatever their size", async (_title, order, compare) => {
  const { client } = await openCatalog();
  const whole = await listAll(client, { order, pageSize: 100 });
  expect(whole.map(({ productId }) => productId)).toEqual(whole.toSorted(compare).map(({ productId }) => productId));
  for (const pageSize of [1, 7, 64]) expect(await listAll(client, { order, pageSize })).toEqual(whole);
});

test("a list of a category has its products alone", async () => {
  const { client } = await openCatalog();
  const products = await listAll(client, { categoryId: "toys", pageSize: 3 });
  expect(products).toHaveLength(8);
  expect(new Set(products.flatMap(({ categories }) => categories))).toEqual(new Set(["toys"]));
  expect((await client.listProducts({ categoryId: "nothing" })).products).toEqual([]);
});

test("a page has 20 products where nothing is said, and never more than 100", async () => {
  const { client, db } = await openCatalog();
  const [kite] = await db.selectFrom("product").selectAll().where("product_id", "=", "kite").execute();
  await db
    .insertInto("product")
    .values(Array.from({ length: 100 }, (_, index) => ({ ...kite!, product_id: `kite-${index}` })))
    .execute();
  expect((await client.listProducts({})).products).toHaveLength(20);
  expect((await client.listProducts({ pageSize: 1_000 })).products).toHaveLength(100);
});

test("a product that is sold no more is in no list, but can be got", async () => {
  const { client, db } = await openCatalog();
  await db.updateTable("product").set({ archived: true }).where("product_id", "=", "kite").execute();
  expect((await listAll(client, {})).map(({ productId }) => productId)).not.toContain("kite");
  expect((await client.listCategories({})).categories.at(-1)).toMatchObject({ categoryId: "toys", productCount: 7 });
  expect((await client.getProduct({ productId: "kite" })).product?.state).toBe(ProductState.ARCHIVED);
});

test("a page token of another list, or of nobody's, is refused", async () => {
  const { client } = await openCatalog();
  const { nextPageToken } = await client.listProducts({ pageSize: 1 });
  const forge = (key: string, order: ProductOrder): string =>
    Buffer.from(JSON.stringify({ order, category: "", key, productId: "kite" })).toString("base64url");
  for (const request of [
    { pageToken: "nonsense" },
    { pageToken: nextPageToken, order: ProductOrder.PRICE },
    { pageToken: nextPageToken, categoryId: "toys" },
    { pageToken: forge("x", ProductOrder.PRICE), order: ProductOrder.PRICE },
    { pageToken: forge("\0", ProductOrder.TITLE) },
  ]) {
    const error = await failureOf(client.listProducts(request));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "INVALID_PAGE_TOKEN" }]);
  }
});

test.each([
  ["a page of -1", "page_size", (client: Client<typeof CatalogService>) => client.listProducts({ pageSize: -1 })],
  ["a token too long", "page_token", (client) => client.listProducts({ pageToken: "x".repeat(501) })],
  ["a category that is no slug", "category_id", (client) => client.listProducts({ categoryId: "\0" })],
  ["a category too long", "category_id", (client) => client.listProducts({ categoryId: "x".repeat(65) })],
  ["an order that there is not", "order", (client) => client.listProducts({ order: 9 as ProductOrder })],
  ["an empty id", "product_id", (client) => client.getProduct({})],
  ["an id that is no slug", "product_id", (client) => client.getProduct({ productId: "No Slug" })],
  ["an id too long", "product_id", (client) => client.getProduct({ productId: "x".repeat(65) })],
  ["no ids", "product_ids", (client) => client.batchGetProducts({})],
  ["101 ids", "product_ids", (client) => client.batchGetProducts({ productIds: Array(101).fill("kite") })],
  ["one id of several that is no slug", "product_ids[1]", (client) => client.batchGetProducts({ productIds: ["kite", "-"] })],
] as [string, string, (client: Client<typeof CatalogService>) => Promise<unknown>][])("%s is refused", async (_title, field, call) => {
  const { client } = await openCatalog();
  const error = await failureOf(call(client));
  expect(error.code).toBe(Code.InvalidArgument);
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations.map((violation) => violation.field)).toEqual([field]);
});
