import { randomUUID } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { CartsService } from "@parley/gen/parley/carts/v1/carts_pb.js";
import { type Order, OrdersService } from "@parley/gen/parley/orders/v1/orders_pb.js";
import type { Shop } from "./suite.ts";

export const anAddress = {
  name: "Ada",
  street: "Main Street 1",
  postalCode: "12345",
  city: "Berlin",
  countryCode: "DE",
  email: "ada@example.org",
};

/** What an order says of the cart that it is for. */
export interface FilledCart {
  readonly etag: string;
  readonly total: NonNullable<Order["total"]>;
}

/** A customer of a suite, who orders by way of its gateway. */
export async function openCustomer(
  shop: Pick<Shop, "gatewayUrl" | "optionsFor">,
  customerId: string,
  { productId = "kite", paymentToken = "tok_approved", shippingAddress = anAddress } = {},
) {
  const transport = createConnectTransport({ baseUrl: shop.gatewayUrl });
  const [carts, orders] = [createClient(CartsService, transport), createClient(OrdersService, transport)];
  const options = await shop.optionsFor(customerId, "customer");
  return {
    options,
    orders,
    /** Puts something in the cart, and returns it. */
    async fill(quantity = 2): Promise<FilledCart> {
      const { cart } = await carts.addItem({ productId, quantity, requestId: randomUUID() }, options);
      if (cart?.total === undefined) throw new Error("the cart is empty");
      return { etag: cart.etag, total: cart.total };
    },
    /** Returns the REST request that orders a cart. */
    requestOf({ etag, total }: FilledCart): { headers: Record<string, string>; body: string } {
      const expectedTotal = { currencyCode: total.currencyCode, minorUnits: String(total.minorUnits) };
      const body = { requestId: randomUUID(), cartEtag: etag, shippingAddress, paymentToken, expectedTotal };
      return { headers: options.headers, body: JSON.stringify(body) };
    },
    async place({ etag, total }: FilledCart, requestId: string = randomUUID()): Promise<Order> {
      const request = { requestId, cartEtag: etag, shippingAddress, paymentToken, expectedTotal: total };
      const { order } = await orders.placeOrder(request, options);
      if (order === undefined) throw new Error("orders answered without an order");
      return order;
    },
  };
}
