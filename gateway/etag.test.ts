import { describe, expect, test } from "vitest";
import { openTestGateway } from "./testing.ts";

const echoPath = "/parley.testing.v1.EchoService/Echo";

describe("an answer to GET", () => {
  test.each([
    ["REST", "/testing/echo/x"],
    ["Connect", `${echoPath}?encoding=json&message=${encodeURIComponent('{"text":"x"}')}`],
    ["Connect, binary", `${echoPath}?encoding=proto&base64=1&message=CgF4`],
  ])("over %s has a tag, and is not sent again to who has it", async (_title, path) => {
    const { url } = await openTestGateway();
    const first = await fetch(url + path);
    const etag = first.headers.get("etag") ?? "";
    expect([first.status, etag, first.headers.get("cache-control")]).toEqual([
      200,
      expect.stringMatching(/^"[\w-]+"$/),
      "private, no-cache",
    ]);
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
      const again = await fetch(url + path, { headers: { "if-none-match": known }, cache: "no-store" });
      expect([again.status, await again.text(), again.headers.get("etag")]).toEqual([304, "", etag]);
    }
    expect((await fetch(url + path, { headers: { "if-none-match": '"other"' } })).status).toBe(200);
  });

  test("that is an error is kept by no cache either, and has no tag", async () => {
    const { url } = await openTestGateway();
    const { headers } = await fetch(`${url}/nothing`);
    expect([headers.get("cache-control"), headers.get("etag")]).toEqual(["private, no-cache", null]);
  });
});
