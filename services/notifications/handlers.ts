import type { ServiceImpl } from "@connectrpc/connect";
import { findOwner } from "@parley/chassis/auth/caller.ts";
import type { Database } from "@parley/chassis/data/database.ts";
import { loadPage } from "@parley/chassis/rpc/page.ts";
import type { NotificationsService } from "@parley/gen/parley/notifications/v1/notifications_pb.js";
import { createStore, type Tables } from "./store.ts";

export function createHandlers({ database }: { database: Database<Tables> }): ServiceImpl<typeof NotificationsService> {
  const store = createStore(database.db);
  return {
    async listNotifications(page, context) {
      const customerId = findOwner(context);
      const { rows, nextPageToken } = await loadPage("notifications", page, (query) => store.list({ ...query, customerId }));
      return { notifications: rows.map(({ notification }) => notification), nextPageToken };
    },
  };
}
