import { type Generated, type QueryExecutorProvider, sql } from "kysely";
import { findCurrentCall, type Origin } from "../rpc/current-call.ts";
import { parseTraceparent, toTraceparent } from "../telemetry/trace.ts";

/** The columns of a row that say where it comes from, as a part of a table's type: work on it is told by the same ids, whoever does it. */
export interface OriginColumns {
  origin_request_id: Generated<string | null>;
  origin_traceparent: Generated<string | null>;
}

/** What they hold. */
export interface OriginValues {
  readonly origin_request_id: string | null;
  readonly origin_traceparent: string | null;
}

/** Adds the columns to a table, in a migration, where it has none yet: tables of work and events that are made today have. */
export async function addOriginColumns(db: QueryExecutorProvider, table: string): Promise<void> {
  await sql`ALTER TABLE ${sql.table(table)} ADD COLUMN IF NOT EXISTS origin_request_id text, ADD COLUMN IF NOT EXISTS origin_traceparent text`.execute(
    db,
  );
}

/** Returns the columns of a row that the current call makes. */
export function origin(): OriginValues {
  const call = findCurrentCall();
  if (call === undefined) return { origin_request_id: null, origin_traceparent: null };
  return { origin_request_id: call.requestId, origin_traceparent: toTraceparent(call.span.spanContext()) };
}

/** Returns where a row comes from. */
export function originOf(row: OriginValues): Origin {
  return { requestId: row.origin_request_id ?? undefined, parent: parseTraceparent(row.origin_traceparent) };
}
