// An orders service that stops at one point of the checkout of the orders placed with it, and tells
// its parent; it goes on, and ends, when it is told to.
import { once } from "node:events";
import { startProcess } from "@parley/chassis/serve.ts";
import { createOrders } from "@parley/orders/service.ts";

const [step = "", when = "", leaseMs = ""] = process.argv.slice(2);
const placedHere = new Set<string>();
let isOver = false;

const orders = createOrders({
  leaseMs: Number(leaseMs),
  async hook(at) {
    if (at.attempt === 1) placedHere.add(at.orderId);
    if (isOver || at.step !== step || at.when !== when || !placedHere.has(at.orderId)) return;
    isOver = true;
    const goOn = once(process, "message");
    process.send?.({ stoppedAt: at.orderId });
    await goOn;
  },
});
const running = await startProcess([orders]);
process.on("message", async (message) => {
  if (message !== "stop") return;
  await running.stop();
  process.exit(0);
});
process.send?.("ready");
