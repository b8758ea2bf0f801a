import { type QueryExecutorProvider, type RawBuilder, sql } from "kysely";

/**
 * Lets a table's column `state` have these states alone, and change in these ways alone, whatever
 * the code says, in a migration: `changes` has, for each state, those that it may come to. A later migration that changes them calls it again.
 */
export async function setStateChanges(
  db: QueryExecutorProvider,
  table: string,
  changes: Readonly<Record<string, readonly string[]>>,
): Promise<void> {
  const states = Object.keys(changes);
  const legal = Object.entries(changes).flatMap(([from, to]) => to.map((state) => `${from} ${state}`));
  const list = (texts: readonly string[]) => sql.join(texts.map((text) => sql.lit(text)));
  const [tableRef, name] = [sql.table(table), sql.id(`${table}_state`)];
  await sql`ALTER TABLE ${tableRef} DROP CONSTRAINT IF EXISTS ${name}`.execute(db);
  await sql`ALTER TABLE ${tableRef} ADD CONSTRAINT ${name} CHECK (state IN (${list(states)}))`.execute(db);
  await sql`CREATE OR REPLACE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NEW.state <> OLD.state AND OLD.state || ' ' || NEW.state NOT IN (${list(legal)}) THEN
        RAISE EXCEPTION '% may not come from % to %', TG_TABLE_NAME, OLD.state, NEW.state USING ERRCODE = 'check_violation';
      END IF;
      RETURN NEW;
    END $$`.execute(db);
  await sql`CREATE OR REPLACE TRIGGER ${name} BEFORE UPDATE OF state ON ${tableRef}
    FOR EACH ROW EXECUTE FUNCTION ${name}()`.execute(db);
}

/** Returns an entry of a JSON history: the state that a thing comes to, and when, by the database's clock. */
export function historyEntry(state: string): RawBuilder<unknown> {
  return sql`jsonb_build_object('state', ${state}::text, 'time', now())`;
}
