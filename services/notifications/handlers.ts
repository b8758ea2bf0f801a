import type { ServiceImpl } from "@connectrpc/connect";
import { findOwner } from "@parley/chassis/auth/caller.ts";
import { loadPage } from "@parley/chassis/rpc/page.ts";
import { ErrorReason, type NotificationsService } from "@parley/gen/parley/notifications/v1/notifications_pb.js";
import { fail } from "./errors.ts";
import type { Store } from "./store.ts";

export function createHandlers({ store }: { store: Store }): ServiceImpl<typeof NotificationsService> {
  return {
    async listNotifications(page, context) {
      const customerId = findOwner(context);
      const { rows, nextPageToken } = await loadPage(
        page,
        (query) => store.list({ ...query, customerId }),
        () => fail(ErrorReason.INVALID_PAGE_TOKEN, "page_token is not one of this list; begin without it"),
      );
      return { notifications: rows.map(({ notification }) => notification), nextPageToken };
    },
  };
}
