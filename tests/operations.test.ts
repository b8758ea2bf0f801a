import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { Agent } from "node:http";
import { join } from "node:path";
import { promisify } from "node:util";
import { eventually } from "@parley/chassis/testing/eventually.ts";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ask, type LoadRequest } from "./chaos/load.ts";
import { openCustomer } from "./customer.ts";
import { type Suite, shopOf, startSuite } from "./suite.ts";

const calls = 10_000;
const atOnce = 16;

describe("an operator of a running suite", () => {
  let suite: Suite;
  beforeAll(async () => {
    suite = await startSuite();
  });
  afterAll(async () => {
    expect(await suite.stop()).toBe(0);
  });

  /** Runs npm run logs; returns what it prints, line by line. */
  async function logs(...args: string[]): Promise<string[]> {
    const tool = join(import.meta.dirname, "../tools/logs.ts");
    const env = { ...process.env, PARLEY_DATA_DIR: suite.dataDir };
    const { stdout } = await promisify(execFile)(process.execPath, [tool, ...args], { env });
    return stdout.trimEnd().split("\n");
  }

  test("reads the story of an order out of the logs of all services, in its order, by the order's id, its request or its trace", async () => {
    const customer = await openCustomer(shopOf(suite), "ada");
    const cart = await customer.fill();
    Object.assign(customer.options.headers, { "x-request-id": "story-1" });
    const { orderId } = await customer.place(cart);
    await fetch(`${suite.gatewayUrl}/api/hello`, { headers: { "user-agent": orderId, "x-request-id": orderId } }); // is not about the order
    const folder = join(suite.dataDir, "logs");
    mkdirSync(join(folder, "folder.jsonl"));
    writeFileSync(join(folder, "other.jsonl"), 'null\n"text"\n{"body":"tor');
    const [traces, ...story] = await eventually(async () => {
      const lines = await logs("--order", orderId);
      for (const service of ["gateway", "orders", "carts", "catalog", "inventory", "payments", "notifications"])
        expect(lines.filter((line) => line.includes(` ${service}: `)).length).toBeGreaterThan(0);
      return lines;
    });
    expect(story).toEqual(story.toSorted((a, b) => (a.split(" ")[0] ?? "").localeCompare(b.split(" ")[0] ?? "")));
    expect(await logs("--request", "story-1")).toEqual([traces, ...story]);
    const [{ trace_id: traceId }] = (await logs("--order", orderId, "--json")).map((line) => JSON.parse(line)) as [{ trace_id: string }];
    expect(traces).toBe(`traces: ${traceId}`);
    expect(await logs("--trace", traceId)).toEqual([traces, ...story]);
    await fetch(`${suite.gatewayUrl}/v1/products/kite%E2%80%A8x`, { headers: { "x-request-id": "separated" } });
    expect((await eventually(() => logs("--request", "separated"))).join()).toContain("gateway: GET");
    await expect(logs("--order", randomUUID())).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("nothing is known of") });
    await expect(logs()).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("usage: npm run logs") });
  });

  test("is told what is wrong at /healthz: nothing", async () => {
    const response = await fetch(`${suite.adminUrl}/healthz`);
    expect([response.status, await response.text()]).toEqual([200, "healthy\n"]);
  });

  test("sees the requests themselves after a signal, but for what is not to be shown, and no more after another", async () => {
    const isShown = async (name: string): Promise<boolean> => {
      await fetch(`${suite.gatewayUrl}/api/hello/${name}`);
      await eventually(() => expect(suite.lines.some((line) => line.includes(`/api/hello/${name}`))).toBe(true));
      return suite.lines.some((line) => line.includes(`{\\"name\\":\\"${name}\\"}`));
    };
    const toggle = async (): Promise<void> => {
      const changes = () => suite.lines.filter((line) => line.includes("the level of the log has changed")).length;
      const before = changes();
      suite.process.kill("SIGUSR2");
      await eventually(() => expect(changes()).toBe(before + 1));
    };
    expect(await isShown("Before")).toBe(false);
    await toggle();
    expect(await isShown("Meanwhile")).toBe(true);
    await toggle();
    expect(await isShown("After")).toBe(false);
  });

  test(`has as many series after ${calls} calls with random ids as after a few`, async () => {
    const staff = await shopOf(suite).optionsFor("eve", "staff");
    const agent = new Agent({ keepAlive: true, maxSockets: atOnce });
    const next = (): LoadRequest => {
      const paths = ["/v1/products/", "/v1/stock/", "/v1/orders/", "/v1/pages/products/", "/api/hello/", "/nothing/"];
      const path = `${paths[Math.floor(Math.random() * paths.length)]}${randomUUID()}`;
      const headers = {
        ...staff.headers,
        "x-request-id": randomUUID(),
        traceparent: `00-${randomUUID().replaceAll("-", "")}-00f067aa0ba902b7-01`,
        "user-agent": randomUUID(),
      };
      return { name: "random", path, headers };
    };
    const callMany = async (count: number): Promise<void> => {
      let left = count;
      await Promise.all(
        Array.from({ length: atOnce }, async () => {
          while (left-- > 0) await ask(suite.gatewayUrl, next(), agent);
        }),
      );
    };
    const countSeries = async (): Promise<number> => {
      const text = await (await fetch(`${suite.adminUrl}/metrics`)).text();
      return text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
    };
    await callMany(500);
    const before = await countSeries();
    await callMany(calls);
    // Codes that come with much load, such as of calls that are refused, may be new: each has a series for each bucket.
    expect((await countSeries()) - before).toBeLessThan(200);
    agent.destroy();
  }, 120_000);
});
