import { type Client, escapeIdentifier, escapeLiteral } from "pg";

/** Makes a role and a database of its own, or sets the role's password where they are there. No other role may connect to it. */
export async function ensureDatabase(client: Client, { name, password }: { name: string; password: string }): Promise<void> {
  const id = escapeIdentifier(name);
  const roles = await client.query("SELECT 1 FROM pg_roles WHERE rolname = $1", [name]);
  await client.query(`${roles.rows.length > 0 ? "ALTER" : "CREATE"} ROLE ${id} LOGIN PASSWORD ${escapeLiteral(password)}`);
  const databases = await client.query("SELECT 1 FROM pg_database WHERE datname = $1", [name]);
  if (databases.rows.length === 0) await client.query(`CREATE DATABASE ${id} OWNER ${id}`);
  for (const database of [id, "postgres", "template1"]) await client.query(`REVOKE CONNECT ON DATABASE ${database} FROM PUBLIC`);
}
