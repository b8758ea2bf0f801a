// Prints reads and writes a second through gRPC, beside those of the same statements straight
// through pg, in turns, and the ratio; 16 at once, out of 100,000 products.
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { seededId, seedProducts } from "@parley/catalog/seed.ts";
import type { Tables } from "@parley/catalog/store.ts";
import { createServiceToken } from "@parley/chassis/auth/service-token.ts";
import { openDatabase } from "@parley/chassis/data/database.ts";
import { embeddedUrl } from "@parley/chassis/data/embedded-postgres.ts";
import { openEventLog } from "@parley/chassis/data/event-log.ts";
import { openTransport } from "@parley/chassis/rpc/transport.ts";
import { createLogger } from "@parley/chassis/telemetry/log.ts";
import { makeDataDir } from "@parley/chassis/testing/data-dir.ts";
import { testDatabaseOptions } from "@parley/chassis/testing/database-options.ts";
import { CatalogService, ProductUpdatedSchema } from "@parley/gen/parley/catalog/v1/catalog_pb.js";
import { InventoryService } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { seedStock } from "@parley/inventory/seed.ts";
import type { Tables as InventoryTables } from "@parley/inventory/store.ts";
import { Pool } from "pg";
import { Registry } from "prom-client";
import { startSuite } from "../tests/suite.ts";
import { shown } from "./shown.ts";

const productCount = 100_000;
const atOnce = 16;
const rounds = 5;
const roundMs = 1_500;
/** As many connections as a service has. */
const poolSize = 5;

const dataDir = makeDataDir();
const suite = await startSuite({ env: { PARLEY_LOG_LEVEL: "warn", PARLEY_DATA_DIR: dataDir } });
const catalogUrl = embeddedUrl(dataDir, "catalog");
const catalogDatabase = openDatabase<Tables>(testDatabaseOptions(catalogUrl));
const inventoryDatabase = openDatabase<InventoryTables>(testDatabaseOptions(embeddedUrl(dataDir, "inventory")));
const seedStartedMs = performance.now();
await seedProducts(catalogDatabase, productCount);
const ids = Array.from({ length: productCount }, (_, index) => seededId(index + 1));
await seedStock(inventoryDatabase, ids, 1_000_000);
console.log(
  `seeded ${productCount} products, their events and their stock in ${Math.round((performance.now() - seedStartedMs) / 1_000)} s`,
);

const { log } = await createLogger({ level: "silent" });
const serviceToken = await createServiceToken("carts", join(dataDir, "keys/carts.private.json"), "parley");
const open = (name: string, contracts: Parameters<typeof openTransport>[0]["contracts"]) =>
  openTransport({
    target: `ipv4:127.0.0.1:${suite.portOf(name)}`,
    contracts,
    peerName: name,
    telemetry: { serviceName: "bench", log, registry: new Registry(), tracer: undefined },
    serviceToken,
    maxMessageBytes: 4 * 1024 * 1024,
  });
const transports = [open("catalog", [CatalogService]), open("inventory", [InventoryService])] as const;
const catalog = createClient(CatalogService, transports[0]);
const inventory = createClient(InventoryService, transports[1]);
const catalogPool = new Pool({ connectionString: catalogUrl, max: poolSize });
const inventoryPool = new Pool({ connectionString: embeddedUrl(dataDir, "inventory"), max: poolSize });
const eventLog = openEventLog(catalogDatabase, { source: "catalog", log });

const randomId = (): string => seededId(1 + Math.floor(Math.random() * productCount));
const words = ["linen bowl", "walnut lamp", "copper kettle", "wool blanket", "oak shelf", "brass clock"];
const randomWords = (): string => words[Math.floor(Math.random() * words.length)] ?? "";
const tsquery = (text: string): string =>
  text
    .split(" ")
    .map((word) => `${word}:*`)
    .join(" & ");
const columns =
  "product_id, title, description, price_minor_units, currency_code, categories, image_path, archived, revision, create_time, update_time";

/** The statements of a reservation as the service makes them, without the service. */
async function reserveStraight(): Promise<void> {
  const client = await inventoryPool.connect();
  const productId = randomId();
  try {
    await client.query("BEGIN");
    await client.query(
      "INSERT INTO reservation (reservation_id, state, product_ids, quantities, expire_time, due_at) VALUES ($1, 'HELD', $2, $3, now() + interval '15 minutes', now() + interval '15 minutes') ON CONFLICT DO NOTHING RETURNING *",
      [randomUUID(), [productId], [1]],
    );
    await client.query("SELECT * FROM stock WHERE product_id = ANY($1) ORDER BY product_id FOR UPDATE", [[productId]]);
    await client.query("UPDATE stock SET reserved = reserved + 1 WHERE product_id = $1", [productId]);
    await client.query("COMMIT");
  } finally {
    client.release();
  }
}

const payload = { product: { productId: "seeded-1", title: "A product", description: "x".repeat(100) } };
const measured: Record<string, { grpc: () => Promise<unknown>; straight: () => Promise<unknown> }> = {
  GetProduct: {
    grpc: () => catalog.getProduct({ productId: randomId() }),
    straight: () => catalogPool.query(`SELECT ${columns} FROM product WHERE product_id = ANY($1)`, [[randomId()]]),
  },
  "ListProducts, page of 20": {
    grpc: () => catalog.listProducts({}),
    straight: () => catalogPool.query(`SELECT ${columns} FROM product WHERE archived = false ORDER BY title, product_id LIMIT 21`),
  },
  SearchProducts: {
    grpc: () => catalog.searchProducts({ query: randomWords() }),
    straight: () =>
      catalogPool.query(
        `SELECT ${columns} FROM (SELECT * FROM product WHERE NOT archived AND words @@ to_tsquery('english', $1) LIMIT 1000) AS product
         ORDER BY ts_rank(words, to_tsquery('english', $1)) DESC, product_id OFFSET 0 LIMIT 21`,
        [tsquery(randomWords())],
      ),
  },
  Reserve: {
    grpc: () => inventory.reserve({ reservationId: randomUUID(), lines: [{ productId: randomId(), quantity: 1n }] }),
    straight: reserveStraight,
  },
  "event append (no gRPC: chassis beside pg)": {
    grpc: () => catalogDatabase.transaction((tx) => eventLog.append(tx, ProductUpdatedSchema, [{ subject: "seeded-1", payload }])),
    straight: () =>
      catalogPool.query(
        `WITH head AS (UPDATE event_log_head SET position = position + 1 RETURNING position)
         INSERT INTO event_log (position, event_id, type, subject, payload) SELECT position, $1, 'bench', 'seeded-1', $2 FROM head`,
        [randomUUID(), Buffer.alloc(150)],
      ),
  },
};

for (const [name, { grpc, straight }] of Object.entries(measured)) {
  await perSecond(grpc); // to warm up
  const results = { grpc: [] as number[], straight: [] as number[], ratio: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    const [one, other] = [await perSecond(grpc), await perSecond(straight)];
    results.grpc.push(one);
    results.straight.push(other);
    results.ratio.push(one / other);
  }
  console.log(`${name}: ${shown(results.grpc)} a second, straight through pg ${shown(results.straight)}, ratio ${shown(results.ratio, 2)}`);
}

await eventLog.close();
for (const pool of [catalogPool, inventoryPool]) await pool.end();
for (const transport of transports) transport.close();
for (const database of [catalogDatabase, inventoryDatabase]) await database.close();
await suite.stop();
rmSync(dataDir, { recursive: true, force: true });

async function perSecond(work: () => Promise<unknown>): Promise<number> {
  let done = 0;
  const startedMs = performance.now();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (; performance.now() - startedMs < roundMs; done++) await work();
    }),
  );
  return (done * 1_000) / (performance.now() - startedMs);
}
