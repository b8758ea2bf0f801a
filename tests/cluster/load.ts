import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Shop } from "../suite.ts";
import type { Quantities, Told } from "../torture/checks.ts";
import { openHttp2Client } from "./http2.ts";

/** A call takes no longer. */
const timeoutMs = 15_000;
/** Before a call that may be repeated is, and how long it is. */
const repeat = { waitMs: 200, forMs: 90_000 };

/** What a load has seen. Times are of performance.now(). */
export interface Journal {
  readonly calls: { readonly what: "read" | "checkout"; readonly atMs: number; readonly tookMs: number; readonly failure?: string }[];
  /** Calls of a checkout that were repeated until they were answered. */
  repeated: number;
  readonly told: Told[];
  readonly carts: Map<string, Quantities>;
}

export interface Load {
  readonly journal: Journal;
  /** Begins nothing more, and resolves when what was begun has ended. */
  stop(): Promise<void>;
}

export interface LoadOptions {
  readonly at: Shop;
  readonly readsPerSecond: number;
  readonly checkoutsPerSecond: number;
  readonly productIds: readonly string[];
  /** Whether the calls of a checkout are repeated, with the same request_id, until they are answered. Default: each is made once. */
  readonly repeats?: boolean;
}

const address = {
  name: "Load",
  street: "Main Street 1",
  postalCode: "12345",
  city: "Berlin",
  countryCode: "DE",
  email: "load@example.org",
};
const reads = ["/api/hello", "/v1/products?page_size=5", "/v1/products:search?query=kite", "/v1/pages/products/kite"];

/** Begins reads and checkouts through the gateway's REST at a constant rate, whatever becomes of them, over connections that are kept, of HTTP/1.1 and HTTP/2. */
export function startLoad({ at, readsPerSecond, checkoutsPerSecond, productIds, repeats = false }: LoadOptions): Load {
  const journal: Journal = { calls: [], repeated: 0, told: [], carts: new Map() };
  const running = new Set<Promise<void>>();
  const http2 = openHttp2Client(at.gatewayUrl, timeoutMs);
  let count = 0;

  async function call<Answer>(
    what: "read" | "checkout",
    path: string,
    options: { headers?: Record<string, string>; body?: unknown; isHttp2?: boolean } = {},
  ): Promise<Answer> {
    const begunMs = performance.now();
    for (;;) {
      const atMs = performance.now();
      const failure = await attempt().catch((error: unknown) => describe(error));
      const isRepeated = repeats && what === "checkout" && typeof failure === "string" && performance.now() - begunMs < repeat.forMs;
      if (isRepeated) journal.repeated++;
      else
        journal.calls.push({
          what,
          atMs,
          tookMs: performance.now() - atMs,
          ...(typeof failure === "string" && { failure: `${path}: ${failure}` }),
        });
      if (typeof failure !== "string") return failure.answer;
      if (!isRepeated) throw new Error(failure);
      await delay(repeat.waitMs);
    }

    async function attempt(): Promise<{ answer: Answer }> {
      if (options.isHttp2) {
        const { status, body } = await http2.get(path);
        if (status !== 200) throw new Error(`${status} ${body.slice(0, 200)}`);
        return { answer: JSON.parse(body) };
      }
      const response = await fetch(new URL(path, at.gatewayUrl), {
        ...(options.body !== undefined && { method: "POST", body: JSON.stringify(options.body) }),
        headers: { "content-type": "application/json", ...options.headers },
        signal: AbortSignal.timeout(timeoutMs),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 200)}`);
      return { answer: JSON.parse(text) };
    }
  }

  async function read(): Promise<void> {
    const path = reads[count % reads.length] ?? "/";
    await call("read", path, { isHttp2: Math.random() < 0.5 }).catch(() => {}); // it is in the journal
  }

  async function checkout(): Promise<void> {
    const customerId = `load-${randomUUID()}`;
    const { headers } = await at.optionsFor(customerId, "customer");
    const productId = productIds[count % productIds.length] ?? "";
    const orderIds: string[] = [];
    const requestId = randomUUID();
    try {
      const cart = await call<{ etag: string; total: unknown }>("checkout", "/v1/cart/items", {
        headers,
        body: { productId, quantity: 1, requestId: randomUUID() },
      });
      journal.carts.set(customerId, { [productId]: 1 });
      journal.told.push({ customerId, requestId, orderIds });
      const body = { requestId, cartEtag: cart.etag, expectedTotal: cart.total, paymentToken: "tok_approved", shippingAddress: address };
      const { orderId } = await call<{ orderId: string }>("checkout", "/v1/orders", { headers, body });
      orderIds.push(orderId);
      journal.carts.set(customerId, {});
    } catch {} // it is in the journal
  }

  const begin = (work: () => Promise<void>): void => {
    count++;
    const one = work().finally(() => running.delete(one));
    running.add(one);
  };
  const timers = [setInterval(begin, 1_000 / readsPerSecond, read), setInterval(begin, 1_000 / checkoutsPerSecond, checkout)];
  return {
    journal,
    async stop() {
      for (const timer of timers) clearInterval(timer);
      await Promise.all(running);
      http2.close();
    },
  };
}

function describe(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? `, ${error.cause.message}` : "";
  return `${error instanceof Error ? error.message : error}${cause}`;
}
