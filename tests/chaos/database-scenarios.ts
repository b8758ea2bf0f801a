import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { embeddedUrl } from "@parley/chassis/data/embedded-postgres.ts";
import { Client } from "pg";
import { partPids } from "../suite.ts";
import { type Arena, timeUntil } from "./arena.ts";
import { type Finding, finding, ms, percent, type Scenario, successes } from "./scenarios.ts";

/** The services that have a database. */
const owners = ["catalog", "inventory", "carts", "payments", "orders", "notifications"];
const lockedMs = 8_000;
const goneMs = 20_000;
/** The longest deadline of reads, and of checkouts, and what an answer may come later for its way. */
const deadlineMs = { read: 2_000, checkout: 5_000 };
const marginMs = 400;
/** Codes of a failure that says what it is: too late, or not to be had; and in the body, why. */
const clear = [503, 504];

export const postgresSlow: Scenario = {
  name: "Postgres slow: a table of inventory is locked",
  async run(arena) {
    const client = await connect(arena.suite.dataDir, "inventory");
    const startedMs = performance.now();
    await client.query("BEGIN");
    await client.query("LOCK TABLE stock IN ACCESS EXCLUSIVE MODE");
    await delay(lockedMs);
    const products = arena.since(startedMs, "page");
    await client.query("COMMIT");
    await client.end();
    const recoveredMs = await timeUntil(() => isReading(arena), 10_000);
    const reads = arena.since(startedMs, "read");
    return [
      inDeadline(arena, startedMs),
      areClear(reads),
      finding("pages go on, without the stock", `${successes(products)} of ${products.length}`, successes(products) === products.length),
      finding("recovery without a restart", ms(recoveredMs), recoveredMs !== undefined),
    ];
  },
};

export const postgresGone: Scenario = {
  name: "Postgres gone for 20 s",
  async run(arena) {
    const { suite } = arena;
    const pids = await partPids(suite);
    const socket = socketOf(suite.dataDir);
    const connections = await Promise.all(owners.map((owner) => connect(suite.dataDir, owner)));
    renameSync(socket, `${socket}.gone`); // who knocks finds nobody
    const startedMs = performance.now();
    const cutOff = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()";
    await Promise.all(connections.map((connection) => connection.query(cutOff)));
    await Promise.all(connections.map((connection) => connection.end()));
    await delay(3_000);
    const inventory = arena.partsOf("inventory");
    const [healthy, alive] = [await statusesOf(inventory, "healthz"), await statusesOf(inventory, "livez")];
    await delay(Math.max(goneMs - (performance.now() - startedMs), 0));
    renameSync(`${socket}.gone`, socket);
    const recoveredMs = await timeUntil(() => isReading(arena), 15_000);
    const after = await partPids(suite);
    const failed = arena.since(startedMs + 3_000, "read", "checkout").filter(({ status }) => status !== 200);
    return [
      inDeadline(arena, startedMs),
      areClear(failed),
      finding(
        "/healthz says so",
        healthy.join(", "),
        healthy.every((status) => status === 503),
      ),
      finding(
        "/livez does not",
        alive.join(", "),
        alive.every((status) => status === 200),
      ),
      finding("recovery without a restart", ms(recoveredMs), recoveredMs !== undefined && `${pids}` === `${after}`),
    ];
  },
};

/** Needs a suite whose data is on a disk of its own, at `disk`. */
export function diskFull(disk: string): Scenario {
  return {
    name: "the disk of Postgres is full",
    async run(arena) {
      const before = arena.acknowledged.size;
      const startedMs = performance.now();
      fill(join(disk, "filling"));
      const failedMs = await timeUntil(() => arena.since(startedMs, "checkout").some(({ status }) => status !== 200), 60_000);
      await delay(5_000);
      const [reads, checkouts] = [arena.since(startedMs, "read", "page"), arena.since(startedMs, "checkout")];
      rmSync(join(disk, "filling"));
      const mendedMs = performance.now();
      const recoveredMs = await timeUntil(() => arena.since(mendedMs, "checkout").some(({ status }) => status === 200), 30_000);
      const failed = checkouts.filter(({ status }) => status !== 200);
      const confirmed = await confirmedOf(arena);
      return [
        finding("writes fail", `${failed.length} of ${checkouts.length} checkouts, the first after ${ms(failedMs)}`, failed.length > 0),
        areClear(failed),
        finding(
          "reads go on",
          `${successes(reads)} of ${reads.length}, ${percent(successes(reads) / reads.length)}`,
          successes(reads) >= 0.99 * reads.length,
        ),
        finding("recovery alone", ms(recoveredMs), recoveredMs !== undefined),
        finding(
          "nothing acknowledged is lost",
          `${confirmed} of ${arena.acknowledged.size} orders, of which ${before} before`,
          confirmed === arena.acknowledged.size,
        ),
      ];
    },
  };
}

/** Waits until all orders that were acknowledged are confirmed, for a minute; returns how many are. */
export async function confirmedOf(arena: Arena): Promise<number> {
  const count = async (): Promise<number> => {
    const rows = await arena.shop
      .query<{ order_id: string }>("orders", "SELECT order_id FROM customer_order WHERE state = 'CONFIRMED'")
      .catch(() => []);
    const ids = new Set(rows.map((row) => row.order_id));
    return [...arena.acknowledged].filter((id) => ids.has(id)).length;
  };
  await timeUntil(async () => (await count()) === arena.acknowledged.size, 60_000);
  return count();
}

function inDeadline(arena: Arena, startedMs: number): Finding {
  const worst = (["read", "checkout"] as const).map((name) => ({
    name,
    slowestMs: Math.max(0, ...arena.since(startedMs, name).map(({ durationMs }) => durationMs)),
  }));
  const text = worst.map(({ name, slowestMs }) => `${name}s ${Math.round(slowestMs)} ms at most`).join(", ");
  return finding(
    "calls end within their deadline",
    text,
    worst.every(({ name, slowestMs }) => slowestMs <= deadlineMs[name] + marginMs),
  );
}

function areClear(answers: readonly { readonly status: number; readonly text: string }[]): Finding {
  const failed = answers.filter(({ status }) => status !== 200);
  const counts = Object.entries(Object.groupBy(failed, ({ status, text }) => `${status} ${/"reason":"(\w+)"/.exec(text)?.[1] ?? ""}`));
  return finding(
    "with a clear code",
    counts.map(([code, some]) => `${some?.length} ${code}`).join(", ") || "none failed",
    failed.every(({ status, text }) => clear.includes(status) && text.includes('"reason"')),
  );
}

/** Whether the last reads went well. */
function isReading(arena: Arena): boolean {
  const recent = arena.since(performance.now() - 500, "read");
  return recent.length >= 5 && recent.every(({ status }) => status === 200);
}

async function statusesOf(parts: readonly { readonly adminPort: number }[], page: string): Promise<number[]> {
  return Promise.all(parts.map(async ({ adminPort }) => (await fetch(`http://127.0.0.1:${adminPort}/${page}`)).status));
}

async function connect(dataDir: string, owner: string): Promise<Client> {
  const client = new Client({ connectionString: embeddedUrl(dataDir, owner) });
  await client.connect();
  return client;
}

function socketOf(dataDir: string): string {
  const [, folder = ""] = /@([^/:]*)/.exec(embeddedUrl(dataDir, "orders")) ?? [];
  return join(decodeURIComponent(folder), ".s.PGSQL.5432");
}

function fill(file: string): void {
  const piece = Buffer.alloc(1024 * 1024);
  for (let _count = 0; ; _count++) {
    try {
      writeFileSync(file, piece, { flag: "a" });
    } catch {
      return; // there is no room left
    }
  }
}
