// Run once per release, before the switch, and past the pooler: DDL wants a session of its own.
import { readFile } from "node:fs/promises";
import pg from "pg";

const connectionString = process.env.DIRECT_DATABASE_URL ?? process.env.DATABASE_URL;
if (!connectionString) {
  console.error("migrate: set DIRECT_DATABASE_URL (or DATABASE_URL)");
  process.exit(2);
}
const client = new pg.Client({ connectionString, connectionTimeoutMillis: 5_000 });
await client.connect();
await client.query(await readFile(new URL("../db/schema.sql", import.meta.url), "utf8"));
await client.end();
console.log("migrate: the schema is up to date");
