import { setTimeout as delay } from "node:timers/promises";
import { signUserToken } from "@parley/chassis/auth/key.ts";
import { localUsersKey } from "@parley/chassis/auth/local-keys.ts";
import type { Arena } from "./arena.ts";
import { confirmedOf } from "./database-scenarios.ts";
import { finding, type Scenario, successes } from "./scenarios.ts";

const aheadMs = 5 * 60_000;
/** How far clocks may be apart for tokens to be good (chassis/auth/authenticate.ts), in seconds. */
const tolerated = 30;
/** Until the fault has come to the service, and what was found valid before is forgotten (chassis/auth/authenticate.ts), in milliseconds. */
const settleMs = 11_000;

export const wrongClock: Scenario = {
  name: "the clock of payments is 5 minutes ahead",
  async run(arena, { brokenMs }) {
    const startedMs = performance.now();
    arena.breakService("payments", { kind: "clock", aheadMs });
    await delay(settleMs);
    const statuses = [await askWith(arena, aheadMs / 1_000 - tolerated - 10), await askWith(arena, aheadMs / 1_000 - tolerated + 10)];
    await delay(Math.max(brokenMs - settleMs, 0));
    const checkouts = arena.since(startedMs, "checkout");
    arena.breakService("payments", undefined);
    const confirmed = await confirmedOf(arena);
    return [
      finding(
        "tokens are good until 30 s after their end by its clock",
        `${statuses[0]} for one that ended 40 s ago, ${statuses[1]} for 20 s`,
        `${statuses}` === "401,200",
      ),
      finding("orders are accepted meanwhile", `${successes(checkouts)} of ${checkouts.length}`, successes(checkouts) === checkouts.length),
      finding(
        "no order breaks: all are confirmed in the end",
        `${confirmed} of ${arena.acknowledged.size}`,
        confirmed === arena.acknowledged.size,
      ),
    ];
  },
};

/** Asks payments for something with a token that is good for so long; returns the status of the answer. */
async function askWith({ suite }: Arena, seconds: number): Promise<number> {
  const claims = { subject: "eve", roles: ["staff" as const], issuer: "parley", audience: "parley", seconds };
  const token = await signUserToken(localUsersKey(suite.dataDir), claims);
  return (await fetch(`${suite.gatewayUrl}/v1/payments`, { headers: { authorization: `Bearer ${token}` } })).status;
}
