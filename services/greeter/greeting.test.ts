import { expect, test } from "vitest";
import { greet } from "./greeting.ts";

test("one person is greeted by name, everybody without", () => {
  expect(greet("Ada")).toBe("Hello, Ada!");
  expect(greet()).toBe("Hello, Microservice!");
});
