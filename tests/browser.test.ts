import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { createServer } from "vite";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Suite, startSuite, tokenFor } from "./suite.ts";

const root = join(import.meta.dirname, "..");
const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => existsSync(path));
if (executablePath === undefined)
  process.stdout.write("browser tests are skipped: there is no Chromium (Debian: apt-get install chromium)\n");
/** For people to look at. */
const screenshots = join(root, ".parley/screenshots");
mkdirSync(screenshots, { recursive: true });

async function openBrowser(args: readonly string[] = []): Promise<BrowserContext> {
  const browser = await chromium.launch({
    ...(executablePath !== undefined && { executablePath }),
    args: ["--no-sandbox", "--disable-background-networking", ...args],
  });
  onTestFinished(() => browser.close());
  return browser.newContext({ viewport: { width: 1_200, height: 1_000 } });
}

async function openSuite(env: NodeJS.ProcessEnv = {}): Promise<Suite> {
  const suite = await startSuite({ env });
  onTestFinished(() => void suite.stop());
  return suite;
}

/** Runs the example's page in Chromium against a suite that lets its origin in, or not. */
async function openExample(letIn: boolean): Promise<Page> {
  const port = await findFreePorts(1);
  const origin = `http://localhost:${port}`;
  const suite = await openSuite(letIn ? { PARLEY_CORS_ORIGINS: origin } : {});
  const server = await createServer({
    root: join(root, "examples/browser"),
    logLevel: "error",
    server: { port, strictPort: true },
  });
  await server.listen();
  onTestFinished(() => server.close());
  // The page names the port that the suite has by default.
  const browser = await openBrowser([`--host-resolver-rules=MAP 127.0.0.1:8080 ${new URL(suite.gatewayUrl).host}`]);
  const page = await browser.newPage();
  await page.goto(origin);
  return page;
}

/** Opens a page of the gateway's, and gathers what it has to complain about. */
async function openDocs(suite: Suite): Promise<{ page: Page; complaints: string[] }> {
  const page = await (await openBrowser()).newPage();
  const complaints: string[] = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on("request", (request) => request.url().startsWith(suite.gatewayUrl) || complaints.push(`asked elsewhere: ${request.url()}`));
  await page.goto(suite.gatewayUrl);
  return { page, complaints };
}

describe.skipIf(executablePath === undefined)("in a browser", () => {
  test("a page of another origin greets by Connect, unary and streaming, and shows what is wrong with its input", async () => {
    const page = await openExample(true);
    await page.getByLabel("Your name").fill("Ada");
    await page.getByRole("button").click();
    await page.locator("li").nth(2).waitFor();
    expect(await page.locator("li").allTextContents()).toEqual(["Hello, Ada!", "Hello, Ada!", "Hello, everybody!"]);
    await page.getByLabel("Your name").fill("");
    await page.getByRole("button").click();
    await page.locator("li").nth(3).waitFor();
    expect(await page.locator("li").nth(3).textContent()).toBe("[invalid_argument] name: must be at least 1 characters");
  });

  test("a page of an origin that is not let in gets nothing", async () => {
    const page = await openExample(false);
    await page.getByLabel("Your name").fill("Ada");
    await page.getByRole("button").click();
    await page.locator("li").waitFor();
    expect(await page.locator("li").textContent()).toMatch(/Failed to fetch/);
  });

  test("a page of another origin speaks REST, with a body and a token, and follows events, after real preflights", async () => {
    const port = await findFreePorts(1);
    const origin = `http://localhost:${port}`;
    const suite = await openSuite({ PARLEY_CORS_ORIGINS: origin });
    const server = await createServer({ root: join(root, "examples/browser"), logLevel: "error", server: { port, strictPort: true } });
    await server.listen();
    onTestFinished(() => server.close());
    const page = await (await openBrowser()).newPage();
    await page.goto(origin);
    const found = await page.evaluate(
      async ([url, token]) => {
        const put = await fetch(`${url}/v1/cart/items/kite`, {
          method: "PUT",
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
          body: '{"quantity":2}',
        });
        const cart: unknown = await put.json();
        const events: unknown[] = [];
        const source = new EventSource(`${url}/api/hello:stream?names=Ada&names=Bob`);
        source.onmessage = ({ data }) => events.push(JSON.parse(data));
        await new Promise((resolve) => source.addEventListener("status", resolve));
        source.close();
        return { status: put.status, requestId: put.headers.get("x-request-id"), cart, events };
      },
      [suite.gatewayUrl, await tokenFor(suite, "ada", "customer")],
    );
    expect(found).toMatchObject({
      status: 200,
      requestId: expect.stringMatching(/./),
      cart: { lines: [{ productId: "kite", quantity: 2 }] },
      events: [{ message: "Hello, Ada!" }, { message: "Hello, Bob!" }],
    });
    const preflights = suite.lines.filter(
      (line) => line.includes('"http.request.method":"OPTIONS"') && line.includes('"http.response.status_code":204'),
    );
    expect(preflights.length).toBeGreaterThan(0);
  });

  test("the page of the gateway shows its methods and tries them out, with a token, and loads nothing from elsewhere", async () => {
    const suite = await openSuite();
    const { page, complaints } = await openDocs(suite);
    const getCart = page.locator("#operations-CartsService-CartsService_GetCart");
    await getCart.waitFor();
    expect(new URL(page.url()).pathname).toBe("/docs");
    await page.screenshot({ path: join(screenshots, "docs.png") });
    expect(complaints).toEqual([]);

    const execute = async (): Promise<void> => {
      const answered = page.waitForResponse(`${suite.gatewayUrl}/v1/cart`);
      await getCart.getByRole("button", { name: "Execute" }).click();
      await answered;
    };
    await getCart.locator(".opblock-summary-control").click();
    await execute();
    const answer = getCart.locator(".live-responses-table");
    await answer.getByText("UNAUTHENTICATED").first().waitFor();
    await page.getByRole("button", { name: "Authorize" }).first().click();
    await page.locator("#auth-bearer-value").fill(await tokenFor(suite, "ada", "customer"));
    await page.locator(".auth-btn-wrapper").getByRole("button", { name: "Apply credentials" }).click();
    await page.locator(".auth-btn-wrapper").getByRole("button", { name: "Close" }).click();
    await execute();
    await answer.getByText('"ada"').first().waitFor();
    await getCart.scrollIntoViewIfNeeded();
    await page.screenshot({ path: join(screenshots, "docs-tried.png") });
    // Chromium itself says of each answer of 401 that it is one.
    expect(complaints.filter((text) => !text.includes("status of 401"))).toEqual([]);
  });

  test("an EventSource watches an order until it is confirmed and shipped", async () => {
    const suite = await openSuite();
    const { page } = await openDocs(suite);
    const token = await tokenFor(suite, "ada", "customer");
    const call = async (path: string, method: string, body: unknown, as = token): Promise<Record<string, string>> => {
      const headers = { authorization: `Bearer ${as}`, "content-type": "application/json" };
      const response = await fetch(suite.gatewayUrl + path, { method, headers, body: JSON.stringify(body) });
      expect(response.status).toBe(200);
      return JSON.parse(await response.text());
    };
    const cart = await call("/v1/cart/items/kite", "PUT", { quantity: 1 });
    const order = await call("/v1/orders", "POST", {
      requestId: crypto.randomUUID(),
      cartEtag: cart["etag"],
      expectedTotal: cart["total"],
      paymentToken: "tok_approved",
      shippingAddress: { name: "Ada", street: "Main Street 1", city: "Berlin", countryCode: "DE", email: "ada@example.org" },
    });
    const watched = page.evaluate(async (url) => {
      const states: string[] = [];
      const source = new EventSource(url);
      source.onmessage = ({ data }) => states.push(JSON.parse(data).state);
      const status = await new Promise<string>((resolve) =>
        source.addEventListener("status", (event) => resolve((event as MessageEvent).data)),
      );
      source.close();
      return { states, status: JSON.parse(status) };
    }, `${suite.gatewayUrl}/v1/orders/${order["orderId"]}:watch?access_token=${token}`);
    await page.waitForResponse((response) => response.url().includes(":watch"));
    await call(`/v1/orders/${order["orderId"]}:markShipped`, "POST", {}, await tokenFor(suite, "bob", "staff"));
    const { states, status } = await watched;
    expect([states.at(-1), status.code]).toEqual(["ORDER_STATE_SHIPPED", 0]);
    expect(suite.lines.join("\n")).not.toContain(token);
  });
});
