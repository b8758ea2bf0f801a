import { Code, ConnectError, createClient, type ServiceImpl } from "@connectrpc/connect";
import { implement } from "@parley/chassis/rpc/implement.ts";
import { failureOf } from "@parley/chassis/testing/failure.ts";
import { createNeighbour, createTestLog, openTestServer, openTestTransport } from "@parley/chassis/testing/rpc.ts";
import { BadRequestSchema, ErrorInfoSchema } from "@parley/gen/google/rpc/error_details_pb.js";
import { CatalogService } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { GreeterService } from "@parley/gen/parley/greeter/v1/greeter_pb.js";
import { InventoryService } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { PagePart, StorefrontService } from "@parley/gen/parley/storefront/v1/storefront_pb.js";
import { expect, test } from "vitest";
import { createHandlers } from "./handlers.ts";

interface Neighbours {
  greeter: Partial<ServiceImpl<typeof GreeterService>>;
  catalog: Partial<ServiceImpl<typeof CatalogService>>;
  inventory: Partial<ServiceImpl<typeof InventoryService>>;
}

const well: Neighbours = {
  greeter: { hello: () => ({ message: "Welcome" }) },
  catalog: {
    listCategories: () => ({ categories: [{ categoryId: "toys", productCount: 1 }] }),
    listProducts: ({ pageSize }) => ({ products: [{ productId: `one-of-${pageSize}` }] }),
    getProduct: ({ productId }) => ({ product: { productId, title: "Kite" } }),
    listRelatedProducts: () => ({ products: [{ productId: "tin-robot" }] }),
  },
  inventory: { batchGetStock: ({ productIds }) => ({ stock: productIds.map((productId) => ({ productId, available: 3n })) }) },
};

async function openStorefront(changed: Partial<Neighbours> = {}) {
  const neighbours = {
    greeter: { ...well.greeter, ...changed.greeter },
    catalog: { ...well.catalog, ...changed.catalog },
    inventory: { ...well.inventory, ...changed.inventory },
  };
  const { log, logs } = createTestLog();
  const handlers = createHandlers({
    greeter: createClient(GreeterService, createNeighbour(GreeterService, neighbours.greeter)),
    catalog: createClient(CatalogService, createNeighbour(CatalogService, neighbours.catalog)),
    inventory: createClient(InventoryService, createNeighbour(InventoryService, neighbours.inventory)),
    log,
  });
  const { port } = await openTestServer([implement(StorefrontService, handlers)]);
  return { client: createClient(StorefrontService, openTestTransport([port])), logs };
}

const down = () => {
  throw new ConnectError("down", Code.Unavailable);
};
const never = () => new Promise<never>(() => {});

test("the home page has a greeting, categories and products", async () => {
  const { client } = await openStorefront();
  expect(await client.getHomePage({})).toMatchObject({
    greeting: "Welcome",
    categories: [{ categoryId: "toys" }],
    products: [{ productId: "one-of-8" }],
    missingParts: [],
  });
});

test("the page of a product has the product, its stock and what is related", async () => {
  const { client } = await openStorefront();
  expect(await client.getProductPage({ productId: "kite" })).toMatchObject({
    product: { productId: "kite", title: "Kite" },
    stock: { productId: "kite", available: 3n },
    relatedProducts: [{ productId: "tin-robot" }],
    missingParts: [],
  });
});

test.each<[string, Partial<Neighbours>, PagePart[]]>([
  ["greeter", { greeter: { hello: down } }, [PagePart.GREETING]],
  ["catalog", { catalog: { listCategories: down, listProducts: down } }, [PagePart.CATEGORIES, PagePart.PRODUCTS]],
])("without the %s the home page lacks its part alone, and says so", async (_title, changed, parts) => {
  const { client, logs } = await openStorefront(changed);
  const page = await client.getHomePage({});
  expect(page.missingParts).toEqual(parts);
  expect(page.greeting === "").toBe(parts.includes(PagePart.GREETING));
  expect(page.products.length === 0).toBe(parts.includes(PagePart.PRODUCTS));
  expect(logs.filter(({ body }) => body === "a part of a page is missing")).toHaveLength(parts.length);
});

test.each<[string, Partial<Neighbours>, PagePart]>([
  ["inventory", { inventory: { batchGetStock: down } }, PagePart.STOCK],
  ["related products", { catalog: { listRelatedProducts: down } }, PagePart.RELATED_PRODUCTS],
  ["product itself", { catalog: { getProduct: down } }, PagePart.PRODUCT],
])("without the %s the page of a product lacks it alone, and says so", async (_title, changed, part) => {
  const { client } = await openStorefront(changed);
  const page = await client.getProductPage({ productId: "kite" });
  expect(page.missingParts).toEqual([part]);
  expect(page.product === undefined).toBe(part === PagePart.PRODUCT);
  expect(page.stock === undefined).toBe(part === PagePart.STOCK);
  expect(page.relatedProducts.length === 0).toBe(part === PagePart.RELATED_PRODUCTS);
});

test("a neighbour that never answers costs its part alone, and the page still comes in time", async () => {
  const { client } = await openStorefront({ inventory: { batchGetStock: never } });
  const page = await client.getProductPage({ productId: "kite" }, { timeoutMs: 1_000 });
  expect(page).toMatchObject({ product: { productId: "kite" }, missingParts: [PagePart.STOCK] });
});

test("neighbours are called at once: each of three has begun before any has answered", async () => {
  let waiting = 0;
  const all = Promise.withResolvers<void>();
  const together = async <T>(answer: T): Promise<T> => {
    if (++waiting === 3) all.resolve();
    await all.promise;
    return answer;
  };
  const { client } = await openStorefront({
    catalog: {
      getProduct: ({ productId }) => together({ product: { productId } }),
      listRelatedProducts: () => together({ products: [] }),
    },
    inventory: { batchGetStock: () => together({ stock: [] }) },
  });
  expect((await client.getProductPage({ productId: "kite" })).missingParts).toEqual([]);
});

test("with each neighbour delayed by 100 ms a page takes as long as one of them, not as all", async () => {
  const late = async <T>(answer: T): Promise<T> => new Promise((resolve) => setTimeout(() => resolve(answer), 100));
  const { client } = await openStorefront({
    catalog: {
      getProduct: ({ productId }) => late({ product: { productId } }),
      listRelatedProducts: () => late({ products: [] }),
    },
    inventory: { batchGetStock: () => late({ stock: [] }) },
  });
  const took: number[] = [];
  for (let round = 0; round < 5; round++) {
    const startedMs = performance.now();
    expect((await client.getProductPage({ productId: "kite" })).missingParts).toEqual([]);
    took.push(performance.now() - startedMs);
  }
  expect(Math.min(...took)).toBeLessThan(200); // the sum is 300
});

test("a product that there is not is NOT_FOUND, in the storefront's own words", async () => {
  const { client } = await openStorefront({
    catalog: {
      getProduct: () => {
        const info = { desc: ErrorInfoSchema, value: { reason: "PRODUCT_NOT_FOUND", domain: "parley.catalog.v1" } };
        throw new ConnectError("the catalog's words", Code.NotFound, undefined, [info]);
      },
    },
  });
  const error = await failureOf(client.getProductPage({ productId: "nothing" }));
  expect(error).toMatchObject({ code: Code.NotFound, rawMessage: "there is no product nothing" });
  expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "PRODUCT_NOT_FOUND", domain: "parley.storefront.v1" }]);
});

test.each([{ productId: "" }, { productId: "A B" }, { productId: "x".repeat(65) }])("the page of %o is refused", async (request) => {
  const { client } = await openStorefront();
  const error = await failureOf(client.getProductPage(request));
  expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations).toMatchObject([{ field: "product_id" }]);
});
