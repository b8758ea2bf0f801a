import { existsSync } from "node:fs";
import { join } from "node:path";
import { findFreePorts } from "@parley/chassis/testing/ports.ts";
import { chromium } from "playwright-core";
import { createServer } from "vite";
import { expect, onTestFinished, test } from "vitest";
import { startSuite } from "./suite.ts";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((path) => existsSync(path));
if (executablePath === undefined)
  process.stdout.write("browser tests are skipped: there is no Chromium (Debian: apt-get install chromium)\n");

/** Runs the example's page in Chromium against a suite that lets its origin in, or not. */
async function openExample(letIn: boolean) {
  const port = await findFreePorts(1);
  const origin = `http://localhost:${port}`;
  const suite = await startSuite({ env: letIn ? { PARLEY_CORS_ORIGINS: origin } : {} });
  onTestFinished(() => void suite.stop());
  const root = join(import.meta.dirname, "../examples/browser");
  const server = await createServer({ root, logLevel: "error", server: { port, strictPort: true } });
  await server.listen();
  onTestFinished(() => server.close());
  const browser = await chromium.launch({
    ...(executablePath !== undefined && { executablePath }),
    // The page names the port that the suite has by default.
    args: ["--no-sandbox", "--disable-background-networking", `--host-resolver-rules=MAP 127.0.0.1:8080 ${new URL(suite.gatewayUrl).host}`],
  });
  onTestFinished(() => browser.close());
  const page = await browser.newPage();
  await page.goto(origin);
  return page;
}

test.skipIf(executablePath === undefined)(
  "a page greets by Connect, unary and streaming, and shows what is wrong with its input",
  async () => {
    const page = await openExample(true);
    await page.getByLabel("Your name").fill("Ada");
    await page.getByRole("button").click();
    await page.locator("li").nth(2).waitFor();
    expect(await page.locator("li").allTextContents()).toEqual(["Hello, Ada!", "Hello, Ada!", "Hello, everybody!"]);
    await page.getByLabel("Your name").fill("");
    await page.getByRole("button").click();
    await page.locator("li").nth(3).waitFor();
    expect(await page.locator("li").nth(3).textContent()).toBe("[invalid_argument] name: must be at least 1 characters");
  },
);

test.skipIf(executablePath === undefined)("a page of an origin that is not let in gets nothing", async () => {
  const page = await openExample(false);
  await page.getByLabel("Your name").fill("Ada");
  await page.getByRole("button").click();
  await page.locator("li").waitFor();
  expect(await page.locator("li").textContent()).toMatch(/Failed to fetch/);
});
