import { type Client, Code, createClient } from "@connectrpc/connect";
import { openEventLog } from "@parley/chassis/data/event-log.ts";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { asService, asUser } from "@parley/chassis/testing/auth.ts";
import { openTestDatabase } from "@parley/chassis/testing/database.ts";
import { failureOf } from "@parley/chassis/testing/failure.ts";
import { createTestLog, openTestServer, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { BadRequestSchema, ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { CatalogService, type Product, ProductOrder, ProductState } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { EventLogService } from "@parley/gen/parley/events/v1/events_pb.js";
import { sql } from "kysely";
import { expect, onTestFinished, test } from "vitest";
import { createHandlers } from "./handlers.ts";
import { seededId, seedProducts } from "./seed.ts";
import { catalogDatabase } from "./service.ts";

async function openCatalog() {
  const database = await openTestDatabase(catalogDatabase);
  const eventLog = openEventLog(database, { source: "catalog", log: createTestLog().log });
  onTestFinished(() => eventLog.close());
  const { port } = await openTestServer([
    implement(CatalogService, createHandlers({ database, eventLog })),
    implement(EventLogService, eventLog.handlers),
  ]);
  const transport = openTestTransport([port]);
  const events = async () => {
    // Behind those of the products that the shop starts with.
    const responses = await Array.fromAsync(createClient(EventLogService, transport).read({ afterPosition: 64n }, await asService()));
    return responses.map(({ event }) => [event!.type.split(".").at(-1), event!.subject]);
  };
  return { database, db: database.db, client: createClient(CatalogService, transport), staff: await asUser("bob", "staff"), events };
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
  const { client, database } = await openCatalog();
  await seedProducts(database, 100);
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

async function titlesFound(client: Client<typeof CatalogService>, query: string): Promise<string[]> {
  return (await client.searchProducts({ query })).products.map(({ title }) => title);
}

test("a search finds words, their beginnings and their other forms, in titles before descriptions", async () => {
  const { client } = await openCatalog();
  expect((await titlesFound(client, "walnut"))[0]).toBe("Walnut Cutting Board");
  expect(await titlesFound(client, "waln cut")).toEqual(["Walnut Cutting Board"]);
  expect(await titlesFound(client, "CUTTINGS boards")).toContain("Walnut Cutting Board");
  expect(await titlesFound(client, "groove juice")).toEqual(["Walnut Cutting Board"]);
  expect((await client.searchProducts({ query: "walnut" })).isSimilar).toBe(false);
});

test("where no product has the words, those with the most similar words are found", async () => {
  const { client } = await openCatalog();
  const { products, isSimilar } = await client.searchProducts({ query: "walnt cuting bord" });
  expect(products[0]?.title).toBe("Walnut Cutting Board");
  expect(isSimilar).toBe(true);
  expect((await client.searchProducts({ query: "catting bord" })).products[0]?.title).toBe("Walnut Cutting Board");
  expect(await client.searchProducts({ query: "qqqqzzzz" })).toMatchObject({ products: [], isSimilar: false, nextPageToken: "" });
});

test.each(["'", "a & | ! b", "<->", ":*", "\\", "%", "🙂", "the", "  "])("the search for %j is nothing special", async (query) => {
  const { client } = await openCatalog();
  expect(await client.searchProducts({ query })).toHaveProperty("products");
});

test("a search comes in pages, each product once", async () => {
  const { client, database } = await openCatalog();
  await seedProducts(database, 60);
  const ids: string[] = [];
  for (let pageToken = ""; ; ) {
    const page = await client.searchProducts({ query: "wool", pageSize: 5, pageToken });
    ids.push(...page.products.map(({ productId }) => productId));
    if (page.nextPageToken === "") break;
    pageToken = page.nextPageToken;
    expect(await failureOf(client.searchProducts({ query: "other", pageToken }))).toMatchObject({ code: Code.InvalidArgument });
  }
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids.length).toBeGreaterThan(5);
});

test("the page tokens of the longest titles, categories and queries are taken back", async () => {
  const { client, staff } = await openCatalog();
  const word = "ж".repeat(199);
  const categories = ["c".repeat(64)];
  for (const number of [1, 2])
    await client.createProduct(
      { product: { ...hat, productId: `${"p".repeat(63)}${number}`, title: `${word}${number}`, categories } },
      staff,
    );
  const list = { categoryId: categories[0]!, pageSize: 1 };
  const { nextPageToken: listToken } = await client.listProducts(list);
  expect((await client.listProducts({ ...list, pageToken: listToken })).products).toHaveLength(1);
  const search = { query: word, pageSize: 1 };
  const { nextPageToken: searchToken } = await client.searchProducts(search);
  expect((await client.searchProducts({ ...search, pageToken: searchToken })).products).toHaveLength(1);
});

test("the events tell of all products from the beginning", async () => {
  const { client, database } = await openCatalog();
  const { rows } = await sql<{ subject: string }>`SELECT subject FROM event_log WHERE type = 'parley.catalog.v1.ProductCreated'`.execute(
    database.db,
  );
  expect(rows.map(({ subject }) => subject).toSorted()).toEqual((await listAll(client, {})).map(({ productId }) => productId).toSorted());
});

test("seeding twice adds each product once, and its event", async () => {
  const { client, database, events } = await openCatalog();
  await seedProducts(database, 3);
  await seedProducts(database, 5);
  expect(await listAll(client, {})).toHaveLength(69);
  expect((await events()).map(([, subject]) => subject)).toEqual([1, 2, 3, 4, 5].map(seededId));
});

test("related products have categories in common, and are not the product itself", async () => {
  const { client } = await openCatalog();
  const { products } = await client.listRelatedProducts({ productId: "kite", pageSize: 4 });
  expect(products).toHaveLength(4);
  for (const { productId, categories } of products) {
    expect(categories).toContain("toys");
    expect(productId).not.toBe("kite");
  }
  expect((await client.listRelatedProducts({ productId: "nothing" })).products).toEqual([]);
});

const hat = {
  productId: "straw-hat",
  title: "Straw Hat",
  description: "Keeps the sun off.",
  price: { currencyCode: "EUR", minorUnits: 2900n },
  categories: ["clothing", "garden"],
  imagePath: "/images/straw-hat.webp",
};

test("a product is created, changed and archived by staff, and each is announced", async () => {
  const { client, staff, events } = await openCatalog();
  const created = (await client.createProduct({ product: hat }, staff)).product!;
  expect(created).toMatchObject({ ...hat, state: ProductState.ACTIVE, etag: "1" });
  const update = { product: { productId: "straw-hat", title: "Sun Hat", etag: created.etag }, updateMask: { paths: ["title"] } };
  const updated = (await client.updateProduct(update, staff)).product!;
  expect(updated).toMatchObject({ ...hat, title: "Sun Hat", etag: "2", createTime: created.createTime });
  const archived = (await client.archiveProduct({ productId: "straw-hat" }, staff)).product!;
  expect(archived).toMatchObject({ state: ProductState.ARCHIVED, etag: "3" });
  expect(await events()).toEqual(["ProductCreated", "ProductUpdated", "ProductArchived"].map((type) => [type, "straw-hat"]));
  expect((await client.getProduct({ productId: "straw-hat" })).product).toEqual(archived);
  expect(await titlesFound(client, "sun hat")).not.toContain("Sun Hat");
  expect((await listAll(client, {})).map(({ productId }) => productId)).not.toContain("straw-hat");
});

test("a second request to create the same product gets the first answer; another of its id is refused", async () => {
  const { client, staff, events } = await openCatalog();
  const first = await client.createProduct({ product: hat }, staff);
  expect(await client.createProduct({ product: hat }, staff)).toEqual(first);
  const error = await failureOf(client.createProduct({ product: { ...hat, title: "Another Hat" } }, staff));
  expect(error.code).toBe(Code.AlreadyExists);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "PRODUCT_EXISTS" }]);
  expect(await events()).toHaveLength(1);
});

test("an update without a mask changes what is set; with one, also what is set to nothing", async () => {
  const { client, staff } = await openCatalog();
  await client.createProduct({ product: hat }, staff);
  const one = await client.updateProduct({ product: { productId: "straw-hat", price: { currencyCode: "EUR", minorUnits: 1n } } }, staff);
  expect(one.product).toMatchObject({ ...hat, price: { minorUnits: 1n } });
  const two = await client.updateProduct(
    { product: { productId: "straw-hat" }, updateMask: { paths: ["description", "image_path"] } },
    staff,
  );
  expect(two.product).toMatchObject({ title: "Straw Hat", description: "", imagePath: "" });
});

test("of two who change the same product, the second is told", async () => {
  const { client, staff } = await openCatalog();
  const updates = ["One", "Two"].map((title) => client.updateProduct({ product: { productId: "kite", title, etag: "1" } }, staff));
  const results = await Promise.allSettled(updates);
  expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
  const error = await failureOf(client.archiveProduct({ productId: "kite", etag: "1" }, staff));
  expect(error.code).toBe(Code.Aborted);
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "ETAG_MISMATCH", metadata: { etag: "2" } }]);
});

test("an archived product changes no more; archiving it again is no failure, and no event", async () => {
  const { client, staff, events } = await openCatalog();
  const first = await client.archiveProduct({ productId: "kite" }, staff);
  expect(await client.archiveProduct({ productId: "kite" }, staff)).toEqual(first);
  expect(await events()).toHaveLength(1);
  const error = await failureOf(client.updateProduct({ product: { productId: "kite", title: "x" } }, staff));
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "PRODUCT_IS_ARCHIVED" }]);
});

test("what is not there is neither changed nor archived", async () => {
  const { client, staff } = await openCatalog();
  for (const call of [
    () => client.updateProduct({ product: { productId: "nothing", title: "x" } }, staff),
    () => client.archiveProduct({ productId: "nothing" }, staff),
  ])
    expect(await failureOf(call())).toMatchObject({ code: Code.NotFound });
});

test("customers may look, and staff alone may change", async () => {
  const { client } = await openCatalog();
  const alice = await asUser("alice", "customer");
  for (const call of [
    (options?: typeof alice) => client.createProduct({ product: hat }, options),
    (options?: typeof alice) => client.updateProduct({ product: { productId: "kite", title: "x" } }, options),
    (options?: typeof alice) => client.archiveProduct({ productId: "kite" }, options),
  ]) {
    expect(await failureOf(call(alice))).toMatchObject({ code: Code.PermissionDenied });
    expect(await failureOf(call())).toMatchObject({ code: Code.Unauthenticated });
  }
});

type Staff = Awaited<ReturnType<typeof asUser>>;

test.each([
  ["a page of -1", "page_size", (client: Client<typeof CatalogService>) => client.listProducts({ pageSize: -1 })],
  ["a token too long", "page_token", (client) => client.listProducts({ pageToken: "x".repeat(4_001) })],
  ["a category that is no slug", "category_id", (client) => client.listProducts({ categoryId: "\0" })],
  ["a category too long", "category_id", (client) => client.listProducts({ categoryId: "x".repeat(65) })],
  ["an order that there is not", "order", (client) => client.listProducts({ order: 9 as ProductOrder })],
  ["an empty id", "product_id", (client) => client.getProduct({})],
  ["an id that is no slug", "product_id", (client) => client.getProduct({ productId: "No Slug" })],
  ["an id too long", "product_id", (client) => client.getProduct({ productId: "x".repeat(65) })],
  ["no ids", "product_ids", (client) => client.batchGetProducts({})],
  ["101 ids", "product_ids", (client) => client.batchGetProducts({ productIds: Array(101).fill("kite") })],
  ["one id of several that is no slug", "product_ids[1]", (client) => client.batchGetProducts({ productIds: ["kite", "-"] })],
  ["an empty query", "query", (client) => client.searchProducts({})],
  ["a query with NUL", "query", (client) => client.searchProducts({ query: "a\0b" })],
  ["a query too long", "query", (client) => client.searchProducts({ query: "x".repeat(201) })],
  ["a search with a page of -1", "page_size", (client) => client.searchProducts({ query: "x", pageSize: -1 })],
  ["a search with a token too long", "page_token", (client) => client.searchProducts({ query: "x", pageToken: "x".repeat(4_001) })],
  ["what is related to no slug", "product_id", (client) => client.listRelatedProducts({ productId: "No Slug" })],
  ["a related page of -1", "page_size", (client) => client.listRelatedProducts({ productId: "kite", pageSize: -1 })],
  ["no product to create", "product", (client, staff) => client.createProduct({}, staff)],
  ["a product without an id", "product", (client, staff) => client.createProduct({ product: { ...hat, productId: "" } }, staff)],
  ["a product without a title", "product", (client, staff) => client.createProduct({ product: { ...hat, title: "" } }, staff)],
  ["a product without a category", "product", (client, staff) => client.createProduct({ product: { ...hat, categories: [] } }, staff)],
  [
    "an id that is no slug to create",
    "product.product_id",
    (client, staff) => client.createProduct({ product: { ...hat, productId: "A" } }, staff),
  ],
  ["a title too long", "product.title", (client, staff) => client.createProduct({ product: { ...hat, title: "x".repeat(201) } }, staff)],
  ["a title with NUL", "product.title", (client, staff) => client.createProduct({ product: { ...hat, title: "a\0b" } }, staff)],
  [
    "a description too long",
    "product.description",
    (client, staff) => client.createProduct({ product: { ...hat, description: "x".repeat(4_001) } }, staff),
  ],
  [
    "a price of nothing",
    "product.price",
    (client, staff) => client.createProduct({ product: { ...hat, price: { currencyCode: "EUR" } } }, staff),
  ],
  [
    "a price without a currency",
    "product.price.currency_code",
    (client, staff) => client.createProduct({ product: { ...hat, price: { minorUnits: 1n } } }, staff),
  ],
  [
    "11 categories",
    "product.categories",
    (client, staff) => client.createProduct({ product: { ...hat, categories: [..."abcdefghijk"] } }, staff),
  ],
  [
    "a category twice",
    "product.categories",
    (client, staff) => client.createProduct({ product: { ...hat, categories: ["a", "a"] } }, staff),
  ],
  [
    "a category that is no slug to create",
    "product.categories[0]",
    (client, staff) => client.createProduct({ product: { ...hat, categories: ["A B"] } }, staff),
  ],
  [
    "a picture elsewhere",
    "product.image_path",
    (client, staff) => client.createProduct({ product: { ...hat, imagePath: "https://evil.example/x" } }, staff),
  ],
  ["no product to update", "product", (client, staff) => client.updateProduct({}, staff)],
  ["an update of no id", "product", (client, staff) => client.updateProduct({ product: { title: "x" } }, staff)],
  [
    "a mask with what cannot be changed",
    "update_mask",
    (client, staff) => client.updateProduct({ product: { productId: "kite" }, updateMask: { paths: ["state"] } }, staff),
  ],
  [
    "a title to be emptied",
    "",
    (client, staff) => client.updateProduct({ product: { productId: "kite" }, updateMask: { paths: ["title"] } }, staff),
  ],
  [
    "an etag that is none",
    "product.etag",
    (client, staff) => client.updateProduct({ product: { productId: "kite", title: "x", etag: "W/1" } }, staff),
  ],
  ["no id to archive", "product_id", (client, staff) => client.archiveProduct({}, staff)],
  ["an etag to archive that is none", "etag", (client, staff) => client.archiveProduct({ productId: "kite", etag: "x" }, staff)],
] as [string, string, (client: Client<typeof CatalogService>, staff: Staff) => Promise<unknown>][])(
  "%s is refused",
  async (_title, field, call) => {
    const { client, staff } = await openCatalog();
    const error = await failureOf(call(client, staff));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations.map((violation) => violation.field)).toEqual([field]);
  },
);
