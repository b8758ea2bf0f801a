import { ReservationState } from "@parley/gen/parley/inventory/v1/inventory_pb.js";
import { OrderState } from "@parley/gen/parley/orders/v1/orders_pb.js";
import { PaymentState } from "@parley/gen/parley/payments/v1/payments_pb.js";
import { expect, test } from "vitest";
import { explore, type Rules, rules } from "./explore.ts";

const bounds = { attempts: 2, lost: 1, cancels: 1 };

test("whatever is lost, late, frozen, cancelled or expired, an order ends with stock and money as its state says", () => {
  const { states, ends, violation } = explore(bounds);
  expect(violation).toBeUndefined();
  expect(Object.keys(ends)).toEqual(expect.arrayContaining(["CANCELLED", "REJECTED", "SHIPPED"]));
  process.stdout.write(`explored ${states} states of a checkout\n`);
});

const broken: Record<string, { change: Partial<Rules>; violates: RegExp }> = {
  "a release leaves no tombstone": {
    change: {
      findChange: (operation, state) =>
        operation === "release" && state === ReservationState.UNSPECIFIED ? undefined : rules.findChange(operation, state),
    },
    violates: /the stock is HELD/,
  },
  "a void leaves no tombstone": {
    change: {
      decide: (operation, current) =>
        operation === "void" && current.state === PaymentState.UNSPECIFIED ? { answer: "done" } : rules.decide(operation, current),
    },
    violates: /the money is authorized|the record says/,
  },
  "a void does not bring an open authorization to its end": {
    change: {
      decide: (operation, current) =>
        operation === "void" && current.state === PaymentState.PENDING
          ? { answer: "done", save: { state: PaymentState.VOIDED, asked: undefined } }
          : rules.decide(operation, current),
    },
    violates: /the money is authorized/,
  },
  "a timeout is taken for a refusal": {
    change: { onUnknown: (at) => (at === "capture" ? OrderState.REJECTED : "give up") },
    violates: /REJECTED, but/,
  },
  "an order is confirmed that is being cancelled": {
    change: {
      findNext: (decision, state) =>
        decision === "confirm" && state === OrderState.CANCELLING ? OrderState.CONFIRMED : rules.findNext(decision, state),
    },
    violates: /cancelled, but then CONFIRMED/,
  },
  "a refund that was asked for is not asked for again": {
    change: {
      decideRefund: (payment, request) => (payment.refunds.length > 0 ? { answer: "done" } : rules.decideRefund(payment, request)),
    },
    violates: /the money is captured/,
  },
  "a void does not say that the money was taken": {
    change: {
      decide: (operation, current) =>
        operation === "void" && current.state === PaymentState.CAPTURED ? { answer: "done" } : rules.decide(operation, current),
    },
    violates: /the money is captured/,
  },
};

test.each(Object.entries(broken))("it is caught when %s", (_name, { change, violates }) => {
  const { violation } = explore(bounds, change);
  expect(violation?.text).toMatch(violates);
  expect(violation?.way.length).toBeGreaterThan(0);
});
