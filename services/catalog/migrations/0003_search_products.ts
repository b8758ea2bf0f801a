import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`ALTER TABLE product ADD COLUMN words tsvector NOT NULL GENERATED ALWAYS AS (
    setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', description), 'B')) STORED`.execute(db);
  await sql`CREATE INDEX product_by_words ON product USING gin (words) WHERE NOT archived`.execute(db);
  // The words of all titles, by which misspelt ones are put right (PostgreSQL, F.35.6): they are few, where titles are many.
  await sql`CREATE EXTENSION IF NOT EXISTS pg_trgm`.execute(db);
  await sql`CREATE TABLE title_word (word text PRIMARY KEY)`.execute(db);
  await sql`CREATE INDEX title_word_by_likeness ON title_word USING gin (word gin_trgm_ops)`.execute(db);
  await sql`CREATE FUNCTION keep_title_words() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO title_word SELECT DISTINCT lower(word) FROM changed, regexp_split_to_table(title, '[^[:alpha:]]+') AS word
        WHERE length(word) >= 3 ORDER BY 1 ON CONFLICT DO NOTHING;
      RETURN NULL;
    END $$`.execute(db);
  for (const event of ["INSERT", "UPDATE"]) {
    await sql`CREATE TRIGGER ${sql.ref(`title_words_of_${event.toLowerCase()}`)} AFTER ${sql.raw(event)} ON product
      REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION keep_title_words()`.execute(db);
  }
  await sql`UPDATE product SET title = title`.execute(db); // those that are there already
}
