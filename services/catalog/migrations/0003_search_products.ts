import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`CREATE EXTENSION IF NOT EXISTS pg_trgm`.execute(db);
  await sql`ALTER TABLE product ADD COLUMN words tsvector NOT NULL GENERATED ALWAYS AS (
    setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', description), 'B')) STORED`.execute(db);
  await sql`CREATE INDEX product_by_words ON product USING gin (words) WHERE NOT archived`.execute(db);
  await sql`CREATE INDEX product_by_likeness ON product USING gin (title gin_trgm_ops) WHERE NOT archived`.execute(db);
}
